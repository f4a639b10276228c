package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/pkg/node"
)

const (
	survivorTimeout = 5 * time.Second  // of one node's answer
	recoverTimeout  = 20 * time.Second // of the decision
	recoverWait     = 2 * time.Minute  // until the survivor leads; it may have to read much of its log
)

// recoverFlags are the flags of partition recover.
type recoverFlags struct {
	to        httpFlags
	destroyed []int32
	survivor  int32
	yes       bool
	format    outputFormat
}

// recoverResult is what it shows.
type recoverResult struct {
	Topic     string               `json:"topic"`
	Partition int32                `json:"partition"`
	Survivors []node.SurvivorState `json:"survivors"`
	Chosen    int32                `json:"chosen"` // node
	Missing   []node.Member        `json:"missing,omitempty"`
	Recovered bool                 `json:"recovered"`
	Leader    int32                `json:"leader,omitempty"`
	// HighWatermark of the new group.
	HighWatermark int64 `json:"high_watermark,omitempty"`

	addrs map[int32]string // HTTP, of survivors
}

func newPartitionRecover() *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use:   "recover TOPIC PARTITION",
		Short: "Let a partition begin anew after a majority of its replicas was destroyed",
		Long: `For a partition that has lost the data of most of its replicas for good: it has no leader
then, and never will by itself. This shows what each surviving replica has, and lets the partition
begin anew from one of them, with new replicas beside it.

Records that were acknowledged may be lost: the destroyed majority may have had some that no
survivor has. If the nodes can still be brought back, bring them back instead. Without --destroyed it
only shows what is left. A node that was named and comes back later sets its old replica aside; while
etcd is away it can't know, so see to it that it does not come back. docs/operations/lost-majority.md`,
		Example: `  raftsman partition recover payments 3
  raftsman partition recover payments 3 --destroyed 2,3
  raftsman partition recover payments 3 --destroyed 2,3 --survivor 1 --yes-i-know-data-may-be-lost`,
		Args: exactArgs("TOPIC", "PARTITION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := strconv.ParseInt(args[1], 10, 32)
			if err != nil || index < 0 {
				return usageError{fmt.Errorf("PARTITION %q is not a number", args[1])}
			}
			return f.run(cmd, args[0], int32(index))
		},
	}
	fs := cmd.Flags()
	f.to.bind(cmd)
	fs.Int32SliceVar(&f.destroyed, "destroyed", nil, "nodes whose replica of this partition is lost for good, NODE,...; all that don't answer must be named")
	fs.Int32Var(&f.survivor, "survivor", 0, "node whose replica the partition begins anew from (default: the one with the longest log)")
	fs.BoolVar(&f.yes, "yes-i-know-data-may-be-lost", false, "do not ask")
	f.format.bind(cmd)
	cmd.ValidArgsFunction = f.to.completeTopics
	return cmd
}

func (f *recoverFlags) run(cmd *cobra.Command, topic string, index int32) error {
	r, err := f.look(cmd, topic, index)
	if err != nil {
		return err
	}
	chosen, err := f.choose(r)
	if err != nil {
		return errors.Join(render(cmd, f.format, r, r.table), err)
	}
	r.Chosen = chosen.Node
	if len(f.destroyed) == 0 {
		if err := render(cmd, f.format, r, r.table); err != nil {
			return err
		}
		return usageError{errors.New("nothing was changed; if the data of the missing replicas is gone for good, name each of their nodes with --destroyed, as in 2,3")}
	}
	if err := f.confirm(cmd, r); err != nil {
		return err
	}
	if err := f.carryOut(cmd, r, chosen); err != nil {
		return err
	}
	return render(cmd, f.format, r, r.table)
}

// look asks every node for its replica.
func (f *recoverFlags) look(cmd *cobra.Command, topic string, index int32) (*recoverResult, error) {
	var info clusterInfo
	if err := f.to.getJSON(cmd, "/cluster.json", &info); err != nil {
		return nil, err
	}
	r := &recoverResult{Topic: topic, Partition: index, Survivors: []node.SurvivorState{}, addrs: make(map[int32]string)}
	var failed error
	for _, n := range info.Nodes {
		s, err := askSurvivor(cmd.Context(), n.HTTP, topic, index)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("node %d: %w", n.Node, err))
			continue
		}
		if s.Replica != 0 {
			r.Survivors, r.addrs[s.Node] = append(r.Survivors, s), n.HTTP
		}
	}
	if len(r.Survivors) == 0 {
		return nil, errors.Join(fmt.Errorf("no node that answers has a replica of %s/%d", topic, index), failed)
	}
	slices.SortFunc(r.Survivors, func(a, b node.SurvivorState) int {
		return cmp.Or(cmp.Compare(b.LastTerm, a.LastTerm), cmp.Compare(b.LastIndex, a.LastIndex), cmp.Compare(a.Node, b.Node))
	})
	for _, m := range r.Survivors[0].Members {
		if !slices.ContainsFunc(r.Survivors, func(s node.SurvivorState) bool { return s.Replica == m.Replica }) {
			r.Missing = append(r.Missing, m)
		}
	}
	return r, nil
}

// choose returns the survivor that the operator named, or the best one.
func (f *recoverFlags) choose(r *recoverResult) (node.SurvivorState, error) {
	for _, s := range r.Survivors {
		if s.Leader != 0 {
			return s, fmt.Errorf("nothing needs to be recovered: node %d leads %s/%d", s.Leader, r.Topic, r.Partition)
		}
	}
	if f.survivor == 0 {
		return r.Survivors[0], nil
	}
	for _, s := range r.Survivors {
		if s.Node == f.survivor {
			return s, nil
		}
	}
	return node.SurvivorState{}, usageError{fmt.Errorf("--survivor %d: that node has no replica of %s/%d, or does not answer", f.survivor, r.Topic, r.Partition)}
}

func (f *recoverFlags) confirm(cmd *cobra.Command, r *recoverResult) error {
	if f.yes {
		return nil
	}
	if in, ok := cmd.InOrStdin().(*os.File); ok && !isTerminal(in) {
		return usageError{errors.New("nobody can be asked: --yes-i-know-data-may-be-lost does not ask")}
	}
	if err := renderTo(cmd.ErrOrStderr(), r.table); err != nil {
		return err
	}
	name := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
	fmt.Fprintf(cmd.ErrOrStderr(), `
Acknowledged records that only the destroyed replicas had are lost for good, and the nodes %v
must not come back with their old data while etcd is away.
Type the partition (%s) to begin anew from node %d: `, f.destroyed, name, r.Chosen)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != name {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}

// carryOut tells the survivor's node and waits until it leads.
func (f *recoverFlags) carryOut(cmd *cobra.Command, r *recoverResult, chosen node.SurvivorState) error {
	req := node.RecoverRequest{
		Topic: r.Topic, Partition: r.Partition, Replica: chosen.Replica, Revision: chosen.Revision,
		Destroyed: f.destroyed, DataMayBeLost: true,
	}
	for _, s := range r.Survivors {
		req.Term = max(req.Term, s.Term, s.LastTerm)
	}
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), recoverTimeout)
	defer cancel()
	addr := r.addrs[chosen.Node]
	var written node.SurvivorState
	if err := callNode(ctx, http.MethodPost, addr, "/partition/recover", body, &written); err != nil {
		return fmt.Errorf("recover %s/%d: %w", r.Topic, r.Partition, err)
	}
	if written.Recovered == nil {
		return fmt.Errorf("node %d did not say what it has written: look with raftsman topic describe %s", chosen.Node, r.Topic)
	}
	ctx, cancel = context.WithTimeout(cmd.Context(), recoverWait)
	defer cancel()
	for {
		s, err := askSurvivor(ctx, addr, r.Topic, r.Partition)
		if err == nil && s.Replica == written.Recovered.Into && s.Leader != 0 {
			r.Recovered, r.Leader, r.HighWatermark = true, s.Leader, s.HighWatermark
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is written that %s/%d begins anew as replica %d, and node %d does not lead it yet: see its log; nothing needs to be repeated",
				r.Topic, r.Partition, written.Recovered.Into, chosen.Node)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (r *recoverResult) table(w io.Writer) {
	heading(w, "NODE", "REPLICA", "LAST TERM", "LAST INDEX", "HIGH WATERMARK", "STATE")
	for _, s := range r.Survivors {
		state := "survives"
		if s.Node == r.Chosen {
			state = "survives, chosen"
		}
		cells(w, s.Node, s.Replica, s.LastTerm, s.LastIndex, s.HighWatermark, state)
	}
	for _, m := range r.Missing {
		state := "does not answer"
		switch {
		case m.Answers:
			state = "its node is up, and did not tell of it"
		case m.Registered:
			state = "does not answer; its lease in etcd has not run out yet"
		}
		cells(w, m.Node, m.Replica, "?", "?", "?", state)
	}
	if r.Recovered {
		fmt.Fprintf(w, "\n%s/%d began anew: node %d leads, its high watermark is %d\n", r.Topic, r.Partition, r.Leader, r.HighWatermark)
	}
}

func askSurvivor(ctx context.Context, addr, topic string, index int32) (s node.SurvivorState, err error) {
	ctx, cancel := context.WithTimeout(ctx, survivorTimeout)
	defer cancel()
	path := "/partition/recover?" + url.Values{"topic": {topic}, "partition": {strconv.Itoa(int(index))}}.Encode()
	return s, callNode(ctx, http.MethodGet, addr, path, nil, &s)
}

// callNode sends a request to one node and decodes its answer.
func callNode(ctx context.Context, method, addr, path string, body []byte, into any) error {
	u, err := httpURL(addr, path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", u, err)
	case resp.StatusCode != http.StatusOK:
		var said gateway.Error
		if json.Unmarshal(answer, &said) != nil || said.Text == "" {
			said.Text = firstLine(answer)
		}
		return fmt.Errorf("%s: %w", addr, &said)
	}
	return json.Unmarshal(answer, into)
}
