package raftnet

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func openPipeline(t testing.TB, from *Transport, to uint64) raft.AppendPipeline {
	t.Helper()
	id, addr := serverOf(to)
	var p raft.AppendPipeline
	waitFor(t, "pipeline", func() bool {
		var err error
		p, err = from.AppendEntriesPipeline(id, addr)
		return err == nil
	})
	t.Cleanup(func() { p.Close() })
	return p
}

func TestPipelineDeliversInOrder(t *testing.T) {
	_, _, _, ta, tb := pair(t, nil)
	respond(t, tb, nil)
	p := openPipeline(t, ta, replica(1, 2))
	const count = 2000
	go func() {
		for i := range count {
			if _, err := p.AppendEntries(entries(uint64(i), 1, rand.IntN(3000)), &raft.AppendEntriesResponse{}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range count {
		f := <-p.Consumer()
		if f.Request().PrevLogEntry != uint64(i) || !f.Response().Success || f.Error() != nil || f.Response().LastLog != uint64(i+1) {
			t.Fatalf("future %d: %+v %+v %v", i, f.Request(), f.Response(), f.Error())
		}
	}
	if match, _, _ := ta.Progress(replica(1, 2)); match != count {
		t.Errorf("match %d", match)
	}
}

func TestPipelineWithASlowReader(t *testing.T) {
	_, _, _, ta, tb := pair(t, nil)
	respond(t, tb, nil)
	p := openPipeline(t, ta, replica(1, 2))
	var sent sync.WaitGroup
	sent.Go(func() {
		for i := range 3 * pipelineDepth {
			if _, err := p.AppendEntries(entries(uint64(i), 1, 10), &raft.AppendEntriesResponse{}); err != nil {
				t.Error(err)
			}
		}
	})
	pl := p.(*pipeline)
	waitFor(t, "unread futures", func() bool {
		pl.mu.Lock()
		defer pl.mu.Unlock()
		return len(pl.out) == pipelineDepth && len(pl.late) == pipelineDepth
	})
	for i := range 3 * pipelineDepth {
		if f := <-p.Consumer(); f.Request().PrevLogEntry != uint64(i) {
			t.Fatalf("future %d came as %d", f.Request().PrevLogEntry, i)
		}
	}
	sent.Wait()
}

func TestPipelineFailsWithTheConnection(t *testing.T) {
	for name, end := range map[string]func(a, b *Net, ta *Transport, p raft.AppendPipeline){
		"peer closed": func(_, b *Net, _ *Transport, _ raft.AppendPipeline) { b.Close() },
		"interrupted": func(_, _ *Net, ta *Transport, _ raft.AppendPipeline) { ta.Interrupt() },
		"peer removed": func(a, _ *Net, _ *Transport, _ raft.AppendPipeline) {
			a.opts.Resolver.(*directory).remove(2)
			a.Refresh()
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, a, b, ta, _ := pair(t, nil)
			p := openPipeline(t, ta, replica(1, 2)) // nobody answers
			const count = 10
			for i := range count {
				if _, err := p.AppendEntries(entries(uint64(i), 1, 10), &raft.AppendEntriesResponse{Term: 99}); err != nil {
					t.Fatal(err)
				}
			}
			end(a, b, ta, p)
			within(t, 5*time.Second, "failed futures", func() {
				for i := range count {
					f := <-p.Consumer()
					if f == nil || f.Request().PrevLogEntry != uint64(i) || f.Response().Success || f.Response().Term != 0 || f.Error() == nil {
						t.Errorf("future %d: %+v", i, f)
					}
				}
			})
			if _, err := p.AppendEntries(entries(1, 1, 10), &raft.AppendEntriesResponse{}); !errors.Is(err, raft.ErrPipelineShutdown) {
				t.Errorf("append on a failed pipeline: %v", err)
			}
		})
	}
}

// A sender that is blocked because nobody reads must come back when the
// pipeline fails, is closed, or when its transport is.
func TestBlockedSenderComesBack(t *testing.T) {
	for name, end := range map[string]func(a *Net, ta *Transport, p raft.AppendPipeline){
		"Close":           func(_ *Net, _ *Transport, p raft.AppendPipeline) { p.Close(); p.Close() },
		"Interrupt":       func(_ *Net, ta *Transport, _ raft.AppendPipeline) { ta.Interrupt() },
		"Transport.Close": func(_ *Net, ta *Transport, _ raft.AppendPipeline) { ta.Close() },
		"Net.Close":       func(a *Net, _ *Transport, _ raft.AppendPipeline) { a.Close() },
	} {
		for _, answered := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				_, a, _, ta, tb := pair(t, nil)
				if answered {
					respond(t, tb, nil)
				}
				p := openPipeline(t, ta, replica(1, 2))
				back := make(chan error, 1)
				go func() {
					for i := uint64(0); ; i++ {
						if _, err := p.AppendEntries(entries(i, 1, 1000), &raft.AppendEntriesResponse{}); err != nil {
							back <- err
							return
						}
					}
				}()
				pl := p.(*pipeline)
				waitFor(t, "the sender to block", func() bool { pl.mu.Lock(); defer pl.mu.Unlock(); return pl.room != nil })
				within(t, 5*time.Second, name, func() { end(a, ta, p) })
				within(t, 5*time.Second, "the sender", func() {
					err := <-back
					between := name == "Net.Close" && errors.Is(err, ErrBroken) // it had room, and found its connection gone
					if !errors.Is(err, raft.ErrPipelineShutdown) && !between {
						t.Error(err)
					}
				})
				within(t, 5*time.Second, "Close", func() { p.Close() })
			})
		}
	}
}

// A follower that rejects ends the pipeline, though its reader is gone
// (hashicorp/raft 611).
func TestRejectionEndsThePipeline(t *testing.T) {
	_, _, _, ta, tb := pair(t, nil)
	p := openPipeline(t, ta, replica(1, 2))
	go func() {
		for rpc := range tb.Consumer() {
			if rpc.Command.(*raft.AppendEntriesRequest).PrevLogEntry >= 5 {
				rpc.Respond(&raft.AppendEntriesResponse{Term: 7, LastLog: 5}, nil)
				return
			}
			rpc.Respond(agree(rpc))
		}
	}()
	within(t, 5*time.Second, "the sender", func() {
		for i := uint64(0); ; i++ {
			if _, err := p.AppendEntries(entries(i, 1, 1000), &raft.AppendEntriesResponse{}); err != nil {
				return
			}
		}
	})
	for i := range 6 {
		if f := <-p.Consumer(); f.Response().Success != (i < 5) || f.Response().Term != 7 {
			t.Errorf("future %d: %+v", i, f.Response())
		}
	}
}

// Appends flow through many pipelines, as raft uses them, while connections
// are cut at random.
func TestPipelineTorture(t *testing.T) {
	var c cutter
	_, a, b, _, _ := pair(t, func(o *Options) { o.Dial = c.dial })
	deadline := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	var delivered atomic.Int64
	for g := 2; g < 10; g++ {
		ta, tb := openGroup(t, a, replica(g, 1)), openGroup(t, b, replica(g, 2))
		respond(t, tb, nil)
		wg.Go(func() {
			for time.Now().Before(deadline) {
				delivered.Add(int64(useAsRaftDoes(t, ta, replica(g, 2), deadline)))
			}
		})
	}
	wg.Go(func() {
		for time.Now().Before(deadline) {
			<-time.After(time.Duration(rand.IntN(150)) * time.Millisecond)
			c.cut()
		}
	})
	within(t, 15*time.Second, "torture", wg.Wait)
	if delivered.Load() == 0 {
		t.Error("nothing got through")
	}
	t.Logf("%d appends were delivered", delivered.Load())
}

// useAsRaftDoes sends in RPC mode, then pipelines until something fails: the
// reader stops at the first failure, the sender at an error or when the reader
// has stopped, and only then is the pipeline closed.
func useAsRaftDoes(t *testing.T, tr *Transport, peer uint64, deadline time.Time) (delivered int) {
	id, addr := serverOf(peer)
	if err := tr.AppendEntries(id, addr, entries(1, 1, 100), &raft.AppendEntriesResponse{}); err != nil {
		t.Error(err)
		return 0
	}
	p, err := tr.AppendEntriesPipeline(id, addr)
	if err != nil {
		return 0
	}
	defer p.Close()
	stop, finished := make(chan struct{}), make(chan struct{})
	next := uint64(1)
	go func() {
		defer close(finished)
		for {
			select {
			case f := <-p.Consumer():
				idle := len(f.Request().Entries) == 0 && !f.Response().Success // the connection broke while nothing was in flight
				if f.Request().PrevLogEntry != next && !idle {
					t.Errorf("future of %d, want %d", f.Request().PrevLogEntry, next)
				}
				if !f.Response().Success {
					return
				}
				next++
				delivered++
			case <-stop:
				return
			}
		}
	}()
	for i := uint64(1); time.Now().Before(deadline); i++ {
		select {
		case <-finished:
		default:
			if _, err := p.AppendEntries(entries(i, 1, rand.IntN(50<<10)), &raft.AppendEntriesResponse{}); err == nil {
				continue
			}
		}
		break
	}
	close(stop)
	<-finished
	return delivered
}
