package raftnet

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// heldGroup is a group on two nodes that hold heartbeats.
type heldGroup struct {
	leader  *Transport
	beats   chan uint64   // terms of the beats that the follower has met
	outdone atomic.Uint64 // the term that it answers instead of the beat's
}

func newHeldGroup(t *testing.T, hold time.Duration) *heldGroup {
	t.Helper()
	_, a, b, _, _ := pair(t, func(o *Options) {
		o.HeartbeatWindow, o.PingInterval = time.Millisecond, 5*time.Millisecond
		o.HeartbeatHold, o.HeartbeatRepeat = hold, 100*time.Millisecond
	})
	g := &heldGroup{leader: openGroup(t, a, replica(7, 1)), beats: make(chan uint64, 1024)}
	follower := openGroup(t, b, replica(7, 2))
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case rpc := <-follower.Consumer():
				req := rpc.Command.(*raft.AppendEntriesRequest)
				term := max(req.Term, g.outdone.Load())
				rpc.Respond(&raft.AppendEntriesResponse{Term: term, Success: term == req.Term}, nil)
				g.beats <- req.Term
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-ended })
	return g
}

type heartbeatResult struct {
	resp raft.AppendEntriesResponse
	err  error
}

// beat sends a heartbeat as raft does.
func (g *heldGroup) beat(term uint64) <-chan heartbeatResult {
	done := make(chan heartbeatResult, 1)
	go func() {
		id, addr := serverOf(replica(7, 2))
		var r heartbeatResult
		r.err = g.leader.AppendEntries(id, addr, &raft.AppendEntriesRequest{Term: term}, &r.resp)
		done <- r
	}()
	return done
}

// await takes so many beats.
func (g *heldGroup) await(t *testing.T, n int, during <-chan heartbeatResult) {
	t.Helper()
	for range n {
		select {
		case <-g.beats:
		case r := <-during:
			t.Fatalf("the heartbeat was not held: %+v", r)
		case <-time.After(30 * time.Second):
			t.Fatal("no beat")
		}
	}
}

func result(t *testing.T, done <-chan heartbeatResult) heartbeatResult {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("the heartbeat did not return")
		panic("unreachable")
	}
}

// TestHeldHeartbeats: one call of raft's is many beats, until something ends it.
func TestHeldHeartbeats(t *testing.T) {
	for _, c := range []struct {
		name string
		hold time.Duration
		end  func(g *heldGroup)
		want func(r heartbeatResult) bool
	}{
		{"the term is over", time.Hour, func(g *heldGroup) { g.leader.Interrupt() },
			func(r heartbeatResult) bool { return errors.Is(r.err, ErrInterrupted) }},
		{"the transport is closed", time.Hour, func(g *heldGroup) { g.leader.Close() },
			func(r heartbeatResult) bool { return r.err != nil }},
		{"the follower knows a later term", time.Hour, func(g *heldGroup) { g.outdone.Store(9) },
			func(r heartbeatResult) bool { return r.err == nil && !r.resp.Success && r.resp.Term == 9 }},
		{"the follower was removed", time.Hour, func(g *heldGroup) { g.leader.Forget(replica(7, 2), 3) },
			func(r heartbeatResult) bool { return r.err == nil && r.resp.Success }},
		{"it was held for long enough", 500 * time.Millisecond, func(*heldGroup) {},
			func(r heartbeatResult) bool { return r.err == nil && r.resp.Success && r.resp.Term == 3 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newHeldGroup(t, c.hold)
			done := g.beat(3)
			g.await(t, 3, done)
			c.end(g)
			if r := result(t, done); !c.want(r) {
				t.Fatalf("returned %+v", r)
			}
		})
	}
}

// TestHurryRenewsHeldHeartbeats: who verifies that this replica leads is told of
// an exchange that began afterwards.
func TestHurryRenewsHeldHeartbeats(t *testing.T) {
	g := newHeldGroup(t, time.Hour)
	done := g.beat(3)
	g.await(t, 2, done)
	g.outdone.Store(4) // what was answered before is not true any more
	release := g.leader.Hurry()
	defer release()
	if r := result(t, done); r.err != nil || r.resp.Success || r.resp.Term != 4 {
		t.Fatalf("returned %+v, want the present answer", r)
	}
	g.outdone.Store(0)
	if r := result(t, g.beat(3)); r.err != nil || !r.resp.Success {
		t.Fatalf("in a hurry: %+v", r)
	}
}
