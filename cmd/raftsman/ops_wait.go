package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/health"
)

const (
	opCodes = `

Exit codes: 0 done; 1 it could not be asked for or seen; 2 usage; 3 refused or
failed, the reason is printed; 4 cancelled; 5 it goes on, but --timeout is over or
it was interrupted.`
	opHelp = `

It is carried out by the winner, and goes on whatever becomes of this command,
which waits and shows how far it is; Ctrl-C ends the waiting alone.` + opCodes

	// opPoll is how often a waiting command looks.
	opPoll = 500 * time.Millisecond
	// opUnseen is how long a node may not know yet what another one was asked for.
	opUnseen = 15 * time.Second
)

// waitFlags say how to wait for an operation.
type waitFlags struct {
	to      httpFlags
	format  outputFormat
	timeout time.Duration
}

func (f *waitFlags) bind(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "how long to wait; 0: until it has ended. The operation goes on after that")
	f.to.bind(cmd)
	f.format.bind(cmd)
}

// opFlags are those of commands that ask for an operation.
type opFlags struct {
	waitFlags
	noWait, force bool
	id            string
}

func (f *opFlags) bind(cmd *cobra.Command) {
	f.waitFlags.bind(cmd)
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "print the operation's id and return at once")
	cmd.Flags().BoolVar(&f.force, "force", false, "even what would be refused for its risk")
	cmd.Flags().StringVar(&f.id, "id", "", "the operation's id; default: one is made up")
}

// run asks for an operation and waits for its end, unless it shall not.
func (f *opFlags) run(cmd *cobra.Command, op cluster.Op) error {
	op.Force = f.force
	if err := op.Sensible(); err != nil {
		return usageError{err}
	}
	made, err := f.ask(cmd, op)
	if err != nil {
		return err
	}
	if !f.noWait {
		return f.wait(cmd, made.ID)
	}
	return render(cmd, f.format, made, func(w io.Writer) { fmt.Fprintln(w, made.ID) })
}

// ask asks for an operation under an id that is chosen here, so that a node which
// is asked after another one has failed does not begin a second one.
func (f *opFlags) ask(cmd *cobra.Command, op cluster.Op) (made gateway.Operation, err error) {
	req := gateway.OpRequest{
		ID: f.id, Kind: op.Kind, Node: op.Node, Topic: op.Topic, Partition: op.Partition, Replicas: op.Replicas, Force: op.Force,
	}
	if req.ID == "" {
		req.ID = gateway.NewOpID(op)
	}
	err = f.to.call(cmd, http.MethodPost, "/ops", req, &made)
	if err != nil && cmd.Context().Err() != nil {
		return made, exitError{exitUnfinished, fmt.Errorf("interrupted while asking; see whether it was begun: raftsman ops wait %s; stop it: raftsman ops cancel %s", req.ID, req.ID)}
	}
	if f.id == "" && answered(err, http.StatusConflict) {
		return gateway.Operation{ID: req.ID, Op: op}, nil // made by the first try, whose answer was lost
	}
	if answered(err, http.StatusBadRequest) {
		return made, exitError{exitRefused, err}
	}
	return made, err
}

// wait shows how far an operation is until it has ended.
func (f *waitFlags) wait(cmd *cobra.Command, id string) error {
	ctx := cmd.Context()
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	shown := newProgress(cmd.ErrOrStderr())
	defer shown.end()
	poll := time.NewTicker(opPoll)
	defer poll.Stop()
	seen, begun := false, time.Now()
	for {
		o, err := f.to.operation(cmd, id)
		switch {
		case err == nil && o.State.Final():
			if o.State == cluster.OpDone { // else the error says it
				shown.op(o)
			}
			shown.end()
			if err := render(cmd, f.format, o, func(w io.Writer) { ended(w, o) }); err != nil {
				return err
			}
			return opResult(o)
		case err == nil:
			seen = true
			shown.op(o)
		case answered(err, http.StatusNotFound) && (seen || time.Since(begun) > opUnseen):
			return fmt.Errorf("operation %s is gone: somebody has removed its key", id)
		case ctx.Err() == nil && !answered(err, http.StatusNotFound):
			var usage usageError
			if errors.As(err, &usage) {
				return err
			}
			shown.note("no node can be asked now, the operation goes on: " + firstLine([]byte(err.Error())))
		}
		select {
		case <-ctx.Done():
			shown.end()
			why := "interrupted"
			if cmd.Context().Err() == nil {
				why = "--timeout is over"
			}
			return exitError{exitUnfinished, fmt.Errorf("%s: the operation goes on; see it: raftsman ops wait %s; stop it: raftsman ops cancel %s", why, id, id)}
		case <-poll.C:
		}
	}
}

// ended is the last line of what went well; errors are printed elsewhere.
func ended(w io.Writer, o gateway.Operation) {
	if o.State != cluster.OpDone {
		return
	}
	fmt.Fprintf(w, "%s is done", health.Title(o.Op))
	if o.Started != nil && o.Finished != nil {
		fmt.Fprintf(w, " after %s", health.Span(o.Finished.Sub(*o.Started)))
	}
	if o.Kind == cluster.OpDecommission {
		fmt.Fprintf(w, "; node %d can be stopped", o.Node)
	}
	fmt.Fprintln(w)
}
