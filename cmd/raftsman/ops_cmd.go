package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
)

func newOps() *cobra.Command {
	return group("ops", "See operations, wait for them and cancel them", newOpsList(), newOpsDescribe(), newOpsWait(), newOpsCancel())
}

func newOpsList() *cobra.Command {
	var (
		to     httpFlags
		view   view
		active bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List operations, the oldest first",
		Example: `  raftsman ops list
  raftsman ops list --active --watch
  raftsman ops list --active -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return view.run(cmd, func() (shown, error) {
				ops := []gateway.Operation{}
				err := to.getJSON(cmd, "/ops", &ops)
				if active {
					ops = slices.DeleteFunc(ops, func(o gateway.Operation) bool { return o.State.Final() })
				}
				return shown{value: ops, table: func(w io.Writer) { opsTable(w, ops) }}, err
			}, nil)
		},
	}
	cmd.Flags().BoolVar(&active, "active", false, "only those that have not ended")
	to.bind(cmd)
	view.bind(cmd)
	return cmd
}

func opsTable(w io.Writer, ops []gateway.Operation) {
	heading(w, "ID", "WHAT", "STATE", "DONE", "LEFT", "CREATED", "REASON")
	for _, o := range ops {
		cells(w, o.ID, health.Title(o.Op), stateTone(opState(o)), fmt.Sprintf("%d%%", health.Percent(o.Op)), left(o), when(o.Created), orDash(o.Reason))
	}
}

// opState is a state in a word.
func opState(o gateway.Operation) string {
	switch {
	case o.Cancel && !o.State.Final():
		return "cancelling"
	case o.State == "": // put by hand, and not looked at yet
		return string(cluster.OpPending)
	}
	return string(o.State)
}

// left is the estimate of an operation that runs.
func left(o gateway.Operation) string {
	if o.Progress == nil || o.Progress.EstimateSeconds <= 0 || o.State.Final() {
		return "-"
	}
	return health.Span(time.Duration(o.Progress.EstimateSeconds) * time.Second)
}

func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func newOpsDescribe() *cobra.Command {
	var (
		to   httpFlags
		view view
	)
	cmd := &cobra.Command{
		Use:     "describe ID",
		Short:   "Show an operation",
		Example: "  raftsman ops describe drain-2-5f3a3d49",
		Args:    exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return view.run(cmd, func() (shown, error) {
				o, err := to.operation(cmd, args[0])
				return shown{value: o, table: func(w io.Writer) { describeOp(w, o) }}, err
			}, nil)
		},
	}
	cmd.ValidArgsFunction = to.completeOps
	to.bind(cmd)
	view.bind(cmd)
	return cmd
}

func (h *httpFlags) operation(cmd *cobra.Command, id string) (o gateway.Operation, err error) {
	return o, h.getJSON(cmd, "/ops/"+url.PathEscape(id), &o)
}

func describeOp(w io.Writer, o gateway.Operation) {
	cells(w, "id", o.ID)
	cells(w, "what", health.Title(o.Op))
	cells(w, "state", stateTone(opState(o)))
	if o.Reason != "" {
		cells(w, "reason", o.Reason)
	}
	if o.Force {
		cells(w, "force", "yes")
	}
	if p := o.Progress; p != nil {
		done := fmt.Sprintf("%d%%, %d of %d", health.Percent(o.Op), p.Done, p.Total)
		if p.BytesTotal > 0 {
			done += fmt.Sprintf(", %s of %s", health.Size(p.BytesDone), health.Size(p.BytesTotal))
		}
		cells(w, "done", done)
		cells(w, "left", left(o))
	}
	cells(w, "created", when(o.Created))
	cells(w, "started", when(o.Started))
	cells(w, "finished", when(o.Finished))
}

func newOpsWait() *cobra.Command {
	var ask waitFlags
	cmd := &cobra.Command{
		Use:     "wait ID",
		Short:   "Wait until an operation has ended, and show how far it is",
		Long:    "Waits until an operation has ended." + opCodes,
		Example: "  raftsman ops wait drain-2-5f3a3d49 --timeout 10m",
		Args:    exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := ask.to.operation(cmd, args[0]); err != nil {
				return err
			}
			return ask.wait(cmd, args[0])
		},
	}
	ask.bind(cmd)
	cmd.ValidArgsFunction = ask.to.completeOps
	return cmd
}

func newOpsCancel() *cobra.Command {
	var (
		to     httpFlags
		format outputFormat
	)
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "Stop an operation",
		Long: `Asks the winner to stop an operation and to go back to how it was, where that is
safe. Exits with 3 if it has ended already.`,
		Example: "  raftsman ops cancel drain-2-5f3a3d49",
		Args:    exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var o gateway.Operation
			err := to.call(cmd, http.MethodPost, "/ops/"+url.PathEscape(args[0])+"/cancel", nil, &o)
			if answered(err, http.StatusConflict) {
				return exitError{exitRefused, err}
			}
			if err != nil {
				return err
			}
			return render(cmd, format, o, func(w io.Writer) {
				fmt.Fprintf(w, "cancelling %s; raftsman ops wait %s shows when it has stopped\n", args[0], args[0])
			})
		},
	}
	cmd.ValidArgsFunction = to.completeOps
	to.bind(cmd)
	format.bind(cmd)
	return cmd
}

// opResult says how an operation has ended.
func opResult(o gateway.Operation) error {
	switch o.State {
	case cluster.OpDone:
		return nil
	case cluster.OpCancelled:
		return exitError{exitCancelled, fmt.Errorf("%s was cancelled", health.Title(o.Op))}
	case cluster.OpRefused:
		return exitError{exitRefused, fmt.Errorf("%s was refused: %s", health.Title(o.Op), o.Reason)}
	}
	return exitError{exitRefused, errors.New(health.Title(o.Op) + " failed: " + o.Reason)}
}
