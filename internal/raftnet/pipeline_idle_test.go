package raftnet

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestIdlePipelineHearsOfItsEnd: raft is told that the connection broke, or that
// the pipeline was ended, though nothing is in flight. It would find out by the
// next entry, and not send that until it is triggered again.
func TestIdlePipelineHearsOfItsEnd(t *testing.T) {
	for name, end := range map[string]func(n *Net, ta *Transport){
		"the connection breaks": func(n *Net, _ *Transport) {
			p, _ := n.knownPeer(2)
			p.down("test")
		},
		"EndPipeline": func(_ *Net, ta *Transport) { ta.EndPipeline(replica(1, 2)) },
	} {
		t.Run(name, func(t *testing.T) {
			_, a, _, ta, tb := pair(t, nil)
			respond(t, tb, nil)
			p := openPipeline(t, ta, replica(1, 2))
			if _, err := p.AppendEntries(entries(1, 1, 10), new(raft.AppendEntriesResponse)); err != nil {
				t.Fatal(err)
			}
			if f := <-p.Consumer(); !f.Response().Success {
				t.Fatalf("%+v", f.Response())
			}
			end(a, ta)
			within(t, 5*time.Second, "the end", func() {
				if f := <-p.Consumer(); f.Response().Success || f.Response().Term != 0 || f.Error() == nil || f.Request() == nil {
					t.Errorf("%+v, %v", f.Response(), f.Error())
				}
			})
			select {
			case f := <-p.Consumer():
				t.Errorf("told twice: %+v", f.Response())
			default:
			}
			if _, err := p.AppendEntries(entries(2, 1, 10), new(raft.AppendEntriesResponse)); err == nil {
				t.Error("an append was taken after the end")
			}
		})
	}
}

// TestInterruptByTerm: an interruption that comes late does not touch the calls
// of the term in which the replica leads by then, and those of the older one end.
func TestInterruptByTerm(t *testing.T) {
	d, a, b, ta, _ := pair(t, nil)
	id, addr := serverOf(replica(1, 2))
	b.Close()
	waitFor(t, "down", func() bool { return !a.Alive(2) })
	results := make(chan error, 2)
	call := func(term uint64) {
		go func() {
			results <- ta.AppendEntries(id, addr, &raft.AppendEntriesRequest{Term: term}, new(raft.AppendEntriesResponse))
		}()
		waitFor(t, "the call", func() bool {
			ta.mu.Lock()
			defer ta.mu.Unlock()
			return ta.sentTerm == term && ta.signals[replica(1, 2)] != nil
		})
	}
	call(5)
	call(7)
	if err := <-results; !errors.Is(err, ErrInterrupted) {
		t.Errorf("a call of term 5 while this replica sends in term 7: %v", err)
	}
	ta.InterruptTo(5)
	select {
	case err := <-results:
		t.Fatalf("a call of term 7 ended: %v", err)
	default:
	}
	if _, patient := ta.beginAppend(7); !patient {
		t.Error("calls of term 7 do not wait any more")
	}
	b = startNode(t, d, 2, nil)
	respond(t, openGroup(t, b, replica(1, 2)), nil)
	if err := <-results; err != nil {
		t.Errorf("the call of term 7: %v", err)
	}
}

// TestBeatsTellTheCommitIndex: a follower that lost it, by a restart, is noticed.
func TestBeatsTellTheCommitIndex(t *testing.T) {
	_, _, _, ta, tb := pair(t, nil)
	respond(t, tb, nil)
	commit := func(index uint64) {
		tb.SetCommitted(func() uint64 { return index })
		ta.TellLeader(replica(1, 2), 7)
		waitFor(t, "commit index", func() bool { f, _ := ta.Follower(replica(1, 2)); return f.Commit == index })
	}
	commit(41)
	if ta.FellBack() {
		t.Error("fell back without having been further")
	}
	commit(3)
	if !ta.FellBack() || ta.FellBack() {
		t.Error("want to be told once that it fell back")
	}
}
