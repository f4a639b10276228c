package raftnet

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// TestHeartbeatsShareFrames: those of many groups travel together, and each
// gets its own answer.
func TestHeartbeatsShareFrames(t *testing.T) {
	const groups = 500
	_, a, b, _, _ := pair(t, func(o *Options) { o.HeartbeatWindow = 200 * time.Millisecond; o.PingInterval = time.Second })
	senders := make([]*Transport, groups)
	for i := range senders {
		senders[i] = openGroup(t, a, replica(10+i, 1))
		if i%10 != 3 { // the others node 2 does not hold
			respond(t, openGroup(t, b, replica(10+i, 2)), nil)
		}
	}
	for i, s := range senders {
		if i%10 == 3 { // whose leadership was lost: it does not wait for the replica
			s.beginAppend(uint64(100 + i))
			s.Interrupt()
		}
	}
	before := counted(t, a.metrics.class(Control).sentFrames)
	var wg sync.WaitGroup
	errs := make([]error, groups)
	resps := make([]raft.AppendEntriesResponse, groups)
	for i, s := range senders {
		wg.Go(func() {
			id, addr := serverOf(replica(10+i, 2))
			errs[i] = s.AppendEntries(id, addr, &raft.AppendEntriesRequest{Term: uint64(100 + i)}, &resps[i])
		})
	}
	wg.Wait()
	for i := range senders {
		switch {
		case i%10 == 3 && !errors.Is(errs[i], ErrUnknownReplica):
			t.Errorf("group %d, which is not there: %v", i, errs[i])
		case i%10 != 3 && (errs[i] != nil || !resps[i].Success || resps[i].Term != uint64(100+i)):
			t.Errorf("group %d: %v, %+v", i, errs[i], resps[i])
		}
	}
	if frames := counted(t, a.metrics.class(Control).sentFrames) - before; frames > groups/10 {
		t.Errorf("%d heartbeats took %v frames", groups, frames)
	}
}

// TestHeartbeatOfAStuckGroup: a raft that does not answer delays nobody else
// for long.
func TestHeartbeatOfAStuckGroup(t *testing.T) {
	_, a, b, stuck, _ := pair(t, nil) // nobody answers in group 1
	well := openGroup(t, a, replica(2, 1))
	respond(t, openGroup(t, b, replica(2, 2)), nil)
	done := make(chan error, 1)
	go func() {
		id, addr := serverOf(replica(1, 2))
		done <- stuck.AppendEntries(id, addr, &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{})
	}()
	id, addr := serverOf(replica(2, 2))
	var resp raft.AppendEntriesResponse
	if err := well.AppendEntries(id, addr, &raft.AppendEntriesRequest{Term: 5}, &resp); err != nil || !resp.Success {
		t.Errorf("the other group: %v, %+v", err, resp)
	}
	if err := <-done; !errors.Is(err, errMissed) {
		t.Errorf("the stuck group: %v", err)
	}
}

// TestTellCommit: raft is handed the append that an idle leader would send.
func TestTellCommit(t *testing.T) {
	_, _, _, ta, tb := pair(t, nil)
	got := make(chan raft.AppendEntriesRequest, 1)
	respond(t, tb, func(cmd any) {
		if r, ok := cmd.(*raft.AppendEntriesRequest); ok {
			got <- *r
		}
	})
	ta.TellCommit(replica(1, 2), 7, 41, 6)
	r := <-got
	if r.Term != 7 || r.PrevLogEntry != 41 || r.PrevLogTerm != 6 || r.LeaderCommitIndex != 41 || len(r.Entries) != 0 {
		t.Errorf("raft was handed %+v", r)
	}
	if string(r.Addr) != "101" {
		t.Errorf("from %q, want 101", r.Addr)
	}
}

// TestHurry: a heartbeat that somebody waits for does not wait for others.
func TestHurry(t *testing.T) {
	_, _, _, ta, tb := pair(t, func(o *Options) { o.HeartbeatWindow = time.Hour })
	respond(t, tb, nil)
	release := ta.Hurry()
	defer release()
	id, addr := serverOf(replica(1, 2))
	if err := ta.AppendEntries(id, addr, &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{}); err != nil {
		t.Error(err)
	}
}

// TestMalformedBeats are refused, and cost nothing.
func TestMalformedBeats(t *testing.T) {
	_, a, _, _, tb := pair(t, nil)
	respond(t, tb, func(cmd any) { t.Errorf("raft was handed %+v", cmd) })
	p, _ := a.knownPeer(2)
	c, err := p.controlConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 2, beatLen, beatLen + 2, 1 + (maxBeats+1)*beatLen} {
		id := a.nextID.Add(1)
		f, err := simpleFrame(kindBeats, 0, id, 0, 0, make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.exchange(t.Context(), f, id, 5*time.Second, false); err == nil {
			t.Errorf("%d bytes were taken", n)
		}
	}
}
