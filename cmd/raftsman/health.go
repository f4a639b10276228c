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
		to     httpFlags
		format outputFormat
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
  raftsman cluster health --http 10.0.0.1:8080,10.0.0.2:8080 -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r health.Report
			if err := to.getJSON(cmd, "/health.json", &r); err != nil {
				var nobody noAnswerError
				if errors.As(err, &nobody) {
					return exitError{exitUnfinished, fmt.Errorf("%w\nlook at the processes and their logs; RAFTSMAN_HTTP or --http name the nodes' HTTP addresses (--http-addr of raftsman serve)", err)}
				}
				return err
			}
			if err := render(cmd, format, r, func(w io.Writer) { healthScreen(w, &r) }); err != nil {
				return err
			}
			switch r.State {
			case health.Healthy:
				return nil
			case health.Degraded:
				return exitError{exitDegraded, nil}
			}
			return exitError{exitBroken, nil}
		},
	}
	to.bind(cmd)
	format.bind(cmd)
	return cmd
}

// healthScreen shows the worst findings, and how many more there are.
func healthScreen(w io.Writer, r *health.Report) {
	fmt.Fprintf(w, "cluster %s is %s, as node %d sees it at %s\n", r.Cluster, r.State, r.Node, r.Time.UTC().Format(time.RFC3339))
	fmt.Fprintf(w, "%s, %s, %s\n", plural(r.Nodes, "node answers", "nodes answer"), plural(r.Topics, "topic", "topics"), plural(r.Partitions, "partition", "partitions"))
	shown := r.Findings[:min(len(r.Findings), healthShown)]
	for _, f := range shown {
		fmt.Fprintf(w, "\n%-8s  %s", f.Severity, f.What)
		if f.Since != nil {
			fmt.Fprintf(w, " (for %s)", health.Span(r.Time.Sub(*f.Since)))
		}
		fmt.Fprintf(w, "\n%-8s  do: %s\n", "", f.Do)
	}
	if more := len(r.Findings) - len(shown); more > 0 {
		fmt.Fprintf(w, "\n%s: raftsman cluster health -o json\n", plural(more, "more finding", "more findings"))
	}
}
