// Command raftsman is a partitioned, replicated log that speaks the Kafka
// protocol and keeps its cluster's metadata in etcd.
//
// Each command is in a file of its own. Exit codes: see the constants.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// Exit codes.
const (
	exitFailed     = 1 // trying again may help
	exitUsage      = 2 // the command line or the configuration is wrong
	exitRefused    = 3 // an operation was refused or has failed
	exitCancelled  = 4 // somebody did not want it
	exitUnfinished = 5 // it goes on, or nobody knows

	exitDegraded = exitFailed  // of cluster health
	exitBroken   = exitRefused // of cluster health
)

// exitError has an exit code of its own. Without an error nothing is printed:
// the output says it all.
type exitError struct {
	code int
	error
}

func (e exitError) Unwrap() error { return e.error }

// Error is for callers that want a text all the same.
func (e exitError) Error() string {
	if e.error == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.error.Error()
}

// usageError makes the exit code exitUsage.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit exitError
	if said := errors.As(err, &exit) && exit.error == nil; err != nil && !said {
		fmt.Fprintln(os.Stderr, "raftsman:", err)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var (
		exit  exitError
		usage usageError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"), strings.HasPrefix(err.Error(), "required flag"):
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "raftsman",
		Short: "A partitioned, replicated log for Kafka clients, beside the etcd you have",
		Long: `A partitioned, replicated log for Kafka clients, beside the etcd you have.

Exit codes: 0 done; 1 failed, trying again may help; 2 the command line, an
environment variable or the configuration file is wrong, trying again won't help;
3 an operation was refused or has failed; 4 it was cancelled; 5 it goes on, but
--timeout is over. Those of cluster health and cluster verify are their own.

Commands that go to the Kafka port take --brokers or RAFTSMAN_BROKERS, those that go to
the HTTP port --http or RAFTSMAN_HTTP. Tables fit the terminal, and have colours there
unless NO_COLOR is set; -o json and -o yaml are for programs.`,
		Example: `  raftsman dev                          # a cluster to try things with
  raftsman topic create orders
  echo hello | raftsman produce orders
  raftsman consume orders --follow
  raftsman cluster status --watch
  raftsman cluster health               # what is wrong, and what to do`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{suggestFlag(cmd, err)} })
	root.AddCommand(
		newServe(), newGateway(), newDev(), newTopic(), newPartition(), newGroup(), newProduce(), newConsume(), newTorture(), newCluster(), newBackup(), newNode(), newOps(),
		newHealthcheck(), newConfig(), newDebug(), newBench(), newCompletion(), newVersion(), newManpages(),
	)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", helpWidth())))
	return root
}

// helpWidth is how wide the help of flags is.
func helpWidth() int {
	if s := screenOf(os.Stdout); s.terminal {
		return min(s.width, 120)
	}
	return 100
}

// group is a noun; it needs a verb.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			var names []string
			for _, verb := range cmd.Commands() {
				names = append(names, verb.Name())
			}
			if near := nearest(args[0], names); near != "" {
				return usageError{fmt.Errorf("unknown command %q for %q; did you mean %s?", args[0], cmd.CommandPath(), near)}
			}
			return usageError{fmt.Errorf("unknown command %q for %q; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())}
		}
		return usageError{fmt.Errorf("%s needs a verb; see %s --help", cmd.CommandPath(), cmd.CommandPath())}
	}}
	cmd.AddCommand(verbs...)
	var examples []string // the first of each verb
	for _, verb := range verbs {
		first, _, _ := strings.Cut(verb.Example, "\n")
		examples = append(examples, first)
	}
	cmd.Example = strings.Join(examples, "\n")
	return cmd
}

// exactArgs wants arguments by name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError{fmt.Errorf("%s takes %s, got %s; see %s --help", commandName(cmd), strings.Join(names, " "), plural(len(args), "argument", "arguments"), cmd.CommandPath())}
		}
		return nil
	}
}

// commandName is the command without the program, whose name errors begin with.
func commandName(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), "raftsman ")
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, got %q; see %s --help", commandName(cmd), args[0], cmd.CommandPath())}
	}
	return nil
}

// suggestFlag adds the nearest flag to the error about an unknown one.
func suggestFlag(cmd *cobra.Command, err error) error {
	var wrong *pflag.InvalidValueError
	if errors.As(err, &wrong) && wrong.GetFlag() != nil {
		return fmt.Errorf("--%s %w; see %s --help", wrong.GetFlag().Name, wrongValue(wrong.GetFlag(), wrong.GetValue()), cmd.CommandPath())
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := nearest(unknown.GetSpecifiedName(), names); near != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	}
	return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
}

// nearest returns the name that is fewest edits away, if it is near at all.
func nearest(name string, names []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, n := range names {
		if d := edits(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// nearestName is for names that people choose, of which more than half must be
// right.
func nearestName(name string, names []string) string {
	if near := nearest(name, names); edits(name, near)*2 < len(name) {
		return near
	}
	return ""
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + slices.Min([]int{diagonal, row[j], row[j+1]})
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
