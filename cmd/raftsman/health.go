package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/health"
)

// healthShown is how many findings fit a screen.
const healthShown = 8

func newClusterHealth() *cobra.Command {
	var (
		to   httpFlags
		view view
	)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Say what is wrong with the cluster, and what to do",
		Long: `Asks a node what is wrong, the worst first, and what to do about it. The answer is
what that node sees; a node that is cut off calls the others away.

Exit codes: 0 healthy; 1 degraded: everything is served, and something needs an
eye; 2 usage; 3 broken: some partitions can't be used, or nothing can be changed;
5 no node answered. docs/operations/health.md explains each finding.`,
		Example: `  raftsman cluster health
  raftsman cluster health --watch
  raftsman cluster health --http 10.0.0.1:8080,10.0.0.2:8080 -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r health.Report
			return view.run(cmd, func() (shown, error) {
				r = health.Report{}
				if err := to.getJSON(cmd, "/health.json", &r); err != nil {
					var nobody noAnswerError
					if errors.As(err, &nobody) {
						err = exitError{exitUnfinished, fmt.Errorf("%w\nlook at the processes and their logs; --http-addr of raftsman serve is a node's HTTP address", err)}
					}
					return shown{}, err
				}
				if r.Findings == nil {
					r.Findings = []health.Finding{}
				}
				steady := r
				steady.Time = time.Time{}
				return shown{value: r, table: func(w io.Writer) { healthScreen(w, &r, !view.watch) }, steady: steady}, nil
			}, func() error {
				switch r.State {
				case health.Healthy:
					return nil
				case health.Degraded:
					return exitError{exitDegraded, nil}
				}
				return exitError{exitBroken, nil}
			})
		},
	}
	to.bind(cmd)
	view.bind(cmd)
	return cmd
}

// healthScreen shows the worst findings, and how many more there are. With clock
// it says when it was, and how long ago things began, else since when they are.
func healthScreen(w io.Writer, r *health.Report, clock bool) {
	at := ""
	if clock {
		at = " at " + r.Time.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(w, "cluster %s is %s, as node %d sees it%s\n", r.Cluster, severity(r.State, ""), r.Node, at)
	fmt.Fprintf(w, "%s, %s, %s\n", plural(r.Nodes, "node answers", "nodes answer"), plural(r.Topics, "topic", "topics"), plural(r.Partitions, "partition", "partitions"))
	shown := r.Findings[:min(len(r.Findings), healthShown)]
	for _, f := range shown {
		fmt.Fprintf(w, "\n%s  %s", severity(f.Severity, fmt.Sprintf("%-8s", f.Severity)), printable(f.What))
		if f.Since != nil && !clock {
			fmt.Fprintf(w, " (since %s)", f.Since.UTC().Format(time.RFC3339))
		} else if f.Since != nil {
			fmt.Fprintf(w, " (for %s)", health.Span(r.Time.Sub(*f.Since)))
		}
		fmt.Fprintf(w, "\n%-8s  do: %s\n", "", printable(f.Do))
	}
	if more := len(r.Findings) - len(shown); more > 0 {
		fmt.Fprintf(w, "\n%s: raftsman cluster health -o json\n", plural(more, "more finding", "more findings"))
	}
}

// severity is a state in its colour; text is it, or how it is shown.
func severity(s health.Severity, text string) tone {
	if text == "" {
		text = string(s)
	}
	switch s {
	case health.Healthy:
		return good(text)
	case health.Info:
		return tone{"36", text}
	case health.Degraded:
		return warn(text)
	}
	return bad(text)
}
