package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/torture"
	"github.com/raftsman/raftsman/internal/torture/check"
	"github.com/raftsman/raftsman/internal/torture/history"
	"github.com/raftsman/raftsman/internal/torture/picture"
)

// Exit codes of torture.
const (
	exitViolated = 1
	exitNoRun    = 2
)

const tortureCodes = `

Exit codes: 0 the history is valid; 1 it is not: something was promised and not kept;
2 there is no verdict, the reason is printed.`

// tortureFlags are those of raftsman torture.
type tortureFlags struct {
	torture.Config
	kafka     kafkaFlags
	to        httpFlags
	format    outputFormat
	nodes     int
	processes bool
	dir       string
	program   string
	quiet     bool
}

func newTorture() *cobra.Command {
	var f tortureFlags
	cmd := &cobra.Command{
		Use:   "torture",
		Short: "Put a cluster under load and faults, and check what its clients saw",
		Long: `Writes, reads, commits and administers by many clients, does harm to the cluster
meanwhile, notes each operation's begin and end in a history, and checks that the history
is one that a log of its promises can have.

Without --brokers the cluster is made for it, an etcd and --nodes nodes in this process,
or with --processes each node as a process of this binary, which is killed and stopped
too. With --brokers it is one that runs already: its topics are left alone, leaderships
and replicas of the run's own topics are moved, and what else is to be done to it is
--nemesis-command's. The topics torture-... stay there.

The history, the data of a cluster that was made, and pictures of violations go to
--dir, which is removed after a valid run if it was not named.` + tortureCodes,
		Example: `  raftsman torture --duration 1m
  raftsman torture --processes --nodes 5 --nemesis kill,pause,partition --seed 42
  raftsman torture --brokers 127.0.0.1:9092 --http 127.0.0.1:8080 --nemesis transfer,move
  raftsman torture check history.jsonl`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	f.kafka.bind(cmd)
	f.to.bind(cmd)
	f.format.bind(cmd)
	flags.DurationVar(&f.Duration, "duration", 30*time.Second, "how long to do harm; recovery and the last reads come on top")
	flags.Uint64Var(&f.Seed, "seed", 0, "of every choice; default: another one each time")
	flags.IntVar(&f.nodes, "nodes", 3, "number of nodes of a cluster that is made")
	flags.IntVar(&f.Partitions, "partitions", 6, "partitions of the topic that is written to")
	flags.IntVar(&f.Rate, "rate", 300, "batches of 1 to 5 records a second, about")
	flags.StringSliceVar(&f.Nemesis, "nemesis", nil, "faults to choose from, or none: restart, partition, one-way, flap, delay, loss, reset, etcd, lease, kill, pause (these two with --processes), wipe, bit-flip, truncate, transfer, move, disconnect, command (default: all that can be)")
	flags.StringVar(&f.NemesisCommand, "nemesis-command", "", "a fault of your own, run by sh with RAFTSMAN_FAULT=begin, later =end, and a number in RAFTSMAN_RANDOM")
	flags.DurationVar(&f.Recovery, "recovery", 2*time.Minute, "how long the cluster may take to be well after the last fault")
	flags.BoolVar(&f.FailFast, "fail-fast", false, "end at the first violation")
	flags.BoolVar(&f.processes, "processes", false, "run each node as a process of this binary")
	flags.StringVar(&f.program, "program", "", "the raftsman that --processes runs (default: this one)")
	flags.StringVar(&f.dir, "dir", "", "an empty directory for history, pictures and data (default: a temporary one)")
	flags.BoolVar(&f.quiet, "quiet", false, "show no progress")
	cmd.AddCommand(newTortureCheck())
	return cmd
}

// verdict is what torture shows.
type verdict struct {
	Valid   bool   `json:"valid"`
	Seed    uint64 `json:"seed"`
	History string `json:"history"`
	Picture string `json:"picture,omitempty"`
	Again   string `json:"again"` // the command that does it again
	*check.Report
}

func (f *tortureFlags) run(cmd *cobra.Command) error {
	given := cmd.Flags().Changed("brokers") || os.Getenv("RAFTSMAN_BROKERS") != ""
	switch {
	case f.Partitions < 1 || f.Partitions > 1000:
		return noRun(fmt.Errorf("--partitions is %d: it must be between 1 and 1000", f.Partitions))
	case f.Rate < 1 || f.Rate > 100_000:
		return noRun(fmt.Errorf("--rate is %d: it must be between 1 and 100000", f.Rate))
	case f.nodes < 1 || f.nodes > 9:
		return noRun(fmt.Errorf("--nodes is %d: it must be between 1 and 9", f.nodes))
	case f.Duration <= 0 || f.Recovery <= 0:
		return noRun(errors.New("--duration and --recovery must be positive"))
	case given && f.processes:
		return noRun(errors.New("--processes makes a cluster, --brokers names one: give one of them"))
	}
	if !cmd.Flags().Changed("seed") {
		f.Seed = rand.Uint64() >> 16
	}
	dir, cleanUp, err := f.directory()
	if err != nil {
		return noRun(err)
	}
	f.History = filepath.Join(dir, "history.jsonl")
	f.Header = history.Header{Seed: f.Seed, Command: f.again(cmd), Program: version()}
	f.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	if !f.quiet {
		shown := newProgress(cmd.ErrOrStderr())
		defer shown.end()
		f.Progress = func(p torture.Progress) { shown.note(p.String()) }
		fmt.Fprintf(cmd.ErrOrStderr(), "seed %d, history %s\n", f.Seed, f.History)
	}
	report, err := f.against(cmd, given, dir)
	if err != nil {
		return noRun(fmt.Errorf("%w (what there is of the history: %s)", err, f.History))
	}
	v := verdict{Valid: report.Valid(), Seed: f.Seed, History: f.History, Again: f.Header.Command, Report: report}
	if v.Picture, err = drawFirst(f.History, report); err != nil {
		f.Logger.Warn("the picture could not be drawn", "err", err)
	}
	if v.Valid && f.dir == "" {
		v.History = ""
		defer cleanUp()
	}
	if err := render(cmd, f.format, v, v.table); err != nil {
		return noRun(err)
	}
	return v.exit()
}

// against makes or finds the cluster and runs.
func (f *tortureFlags) against(cmd *cobra.Command, given bool, dir string) (report *check.Report, err error) {
	ctx := cmd.Context()
	if given {
		brokers, err := f.kafka.addresses(cmd)
		if err != nil {
			return nil, err
		}
		http, err := f.to.addresses(cmd)
		if err != nil {
			return nil, err
		}
		client, err := f.kafka.connect(cmd)
		if err != nil {
			return nil, err
		}
		n := len(client.DiscoveredBrokers())
		client.Close()
		return torture.Run(ctx, f.Config, torture.Remote(brokers, http, n))
	}
	cfg := torture.LocalConfig{Nodes: f.nodes, Dir: dir, Version: version(), Logger: slog.New(slog.DiscardHandler)}
	if log, err := os.Create(filepath.Join(dir, "nodes.log")); err == nil {
		defer log.Close()
		cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	if f.processes {
		if cfg.Program = f.program; cfg.Program == "" {
			if cfg.Program, err = os.Executable(); err != nil {
				return nil, fmt.Errorf("find this program: %w", err)
			}
		}
	}
	cluster, err := torture.Local(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	return torture.Run(ctx, f.Config, cluster)
}

func (f *tortureFlags) directory() (dir string, cleanUp func(), err error) {
	if f.dir == "" {
		dir, err = os.MkdirTemp("", "raftsman-torture-")
		return dir, func() { os.RemoveAll(dir) }, err
	}
	if dir, err = filepath.Abs(f.dir); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", nil, err
	}
	left, err := os.ReadDir(dir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("--dir %s is not empty: name another one", dir)
	}
	return dir, func() {}, err
}

// again is the command line that makes the same choices.
func (f *tortureFlags) again(cmd *cobra.Command) string {
	line := []string{"raftsman torture", fmt.Sprint("--seed ", f.Seed)}
	for _, name := range []string{"brokers", "http", "duration", "nodes", "partitions", "rate", "nemesis", "nemesis-command", "processes", "program", "recovery", "fail-fast"} {
		if flag := cmd.Flags().Lookup(name); flag.Changed {
			value := strings.Trim(flag.Value.String(), "[]")
			if strings.ContainsAny(value, " '\"$;&|()<>") {
				value = "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
			}
			line = append(line, "--"+name+"="+value)
		}
	}
	return strings.Join(line, " ")
}

// noRun is an error that leaves no verdict.
func noRun(err error) error {
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted: %w", err)
	}
	return exitError{exitNoRun, err}
}

// drawFirst draws the first violation that is about a partition's log, beside the
// history.
func drawFirst(path string, r *check.Report) (picturePath string, err error) {
	i := slices.IndexFunc(r.Violations, func(v check.Violation) bool { return v.Topic != "" && v.Group == "" && v.Offset >= 0 })
	if i < 0 {
		return "", nil
	}
	picturePath = strings.TrimSuffix(path, ".jsonl") + ".html"
	file, err := os.Create(picturePath)
	if err != nil {
		return "", err
	}
	return picturePath, errors.Join(picture.Draw(path, r.Violations[i], file), file.Close())
}

func (v verdict) exit() error {
	if v.Valid {
		return nil
	}
	n := len(v.Violations) + v.NotListed
	return exitError{exitViolated, fmt.Errorf("%s; again: %s", plural(n, "violation", "violations"), cmp.Or(v.Again, "-"))}
}

func (v verdict) table(w io.Writer) {
	word := "valid"
	if !v.Valid {
		word = "VIOLATED"
	}
	cells(w, "verdict", word)
	cells(w, "seed", v.Seed)
	cells(w, "seconds", fmt.Sprintf("%.1f", v.Seconds))
	cells(w, "faults", v.Faults)
	cells(w, "acknowledged", v.Records)
	cells(w, "observed", v.Observed)
	cells(w, "partitions", v.Partitions)
	cells(w, "former leaders' answers", v.Former)
	if v.History != "" {
		cells(w, "history", v.History)
	}
	if v.Picture != "" {
		cells(w, "picture", v.Picture)
	}
	if len(v.Unread) > 0 {
		cells(w, "not read to the end", strings.Join(v.Unread, ", "))
	}
	fmt.Fprintln(w)
	cells(w, "OPERATIONS", "NUMBER")
	for _, kind := range slices.Sorted(maps.Keys(v.Operations)) {
		cells(w, kind, v.Operations[kind])
	}
	if len(v.Violations) > 0 {
		fmt.Fprintln(w)
		cells(w, "VIOLATION", "PARTITION", "OFFSET", "SECOND", "WHAT")
	}
	for _, x := range v.Violations {
		cells(w, x.Kind, fmt.Sprintf("%s/%d", x.Topic, x.Partition), x.Offset, fmt.Sprintf("%.3f", float64(x.T)/1e9), x.Text)
	}
	if v.NotListed > 0 {
		fmt.Fprintf(w, "and %d more\n", v.NotListed)
	}
}

func newTortureCheck() *cobra.Command {
	var format outputFormat
	cmd := &cobra.Command{
		Use:     "check HISTORY",
		Short:   "Check a history again",
		Long:    "Checks a history that raftsman torture has written, and draws the first violation beside it." + tortureCodes,
		Example: "  raftsman torture check history.jsonl -o json",
		Args:    exactArgs("HISTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, report, err := check.File(args[0])
			if err != nil {
				return noRun(err)
			}
			v := verdict{Valid: report.Valid(), Seed: h.Seed, History: args[0], Again: h.Command, Report: report}
			if v.Picture, err = drawFirst(args[0], report); err != nil {
				return noRun(fmt.Errorf("draw the picture: %w", err))
			}
			if err := render(cmd, format, v, v.table); err != nil {
				return noRun(err)
			}
			return v.exit()
		},
	}
	format.bind(cmd)
	return cmd
}
