package dashboard

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftsman/raftsman/internal/health"
)

func newTest(t *testing.T, w *world) *Dashboard {
	t.Helper()
	d, err := New(Options{
		Node: func() int32 { return 1 }, Version: "v1", Look: w.look, Changed: w.wait,
		Winners: func() []Win { return []Win{{Node: 1, Revision: 5, Seen: time.Unix(10, 0)}} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// run runs a dashboard in a bubble of fake time, and waits until it has ended.
func run(t *testing.T, w *world, f func(t *testing.T, d *Dashboard)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newTest(t, w)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		f(t, d)
	})
}

func join(t *testing.T, d *Dashboard) *watcher {
	t.Helper()
	w := d.hub.join()
	if w == nil {
		t.Fatal("there is no room for a watcher")
	}
	return w
}

func next(t *testing.T, w *watcher) message {
	t.Helper()
	var m message
	if err := json.Unmarshal(<-w.c, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func get[T any](t *testing.T, m message, key string) (v T) {
	t.Helper()
	if err := json.Unmarshal(m.Set[key], &v); err != nil {
		t.Fatalf("%s is %q: %v", key, m.Set[key], err)
	}
	return v
}

func TestFirstMessageIsWhole(t *testing.T) {
	run(t, newWorld(6), func(t *testing.T, d *Dashboard) {
		m := next(t, join(t, d))
		if !m.Reset || m.Page == "" || m.Within != 1000 {
			t.Errorf("the first message is %+v", m)
		}
		o := get[Overview](t, m, "cluster")
		if o.Partitions != 6 || o.Shown != 6 || o.Topics != 1 || o.NodesUp != 3 || o.Nodes != 3 || o.Winner != 1 || o.Version != "v1" || o.Leaderless+o.UnderReplicated != 0 {
			t.Errorf("got %+v", o)
		}
		if p := get[health.Partition](t, m, "p/t/4"); p.Leader != 2 || p.Term != 7 || len(p.InSync) != 3 {
			t.Errorf("got %+v", p)
		}
		if n := get[health.Node](t, m, "node/2"); n.Leads != 2 || n.Replicas != 6 {
			t.Errorf("got %+v", n)
		}
		if w := get[[]Win](t, m, "winners"); len(w) != 1 || w[0].Revision != 5 {
			t.Errorf("got %+v", w)
		}
	})
}

func TestOnlyChangesAreSent(t *testing.T) {
	w := newWorld(1000)
	run(t, w, func(t *testing.T, d *Dashboard) {
		watcher := join(t, d)
		if m := next(t, watcher); len(m.Set) < 1000 {
			t.Fatalf("the first message has %d items", len(m.Set))
		}
		next(t, watcher) // with the nodes' loads
		began := time.Now()
		w.change(func() { w.leader[7] = 3 })
		m := next(t, watcher)
		if m.Reset || m.Set["p/t/7"] == nil || m.Set["p/t/8"] != nil || len(m.Set) > 10 {
			t.Errorf("after one change: %d items, reset %v", len(m.Set), m.Reset)
		}
		if took := time.Since(began); took > leastTick {
			t.Errorf("the change was sent after %v", took)
		}
		w.change(func() { w.count = 999 })
		if m := next(t, watcher); len(m.Del) != 1 || m.Del[0] != "p/t/999" {
			t.Errorf("after a partition has gone: %v", m.Del)
		}
	})
}

func TestNodeThatDiesIsToldAtOnce(t *testing.T) {
	w := newWorld(3)
	run(t, w, func(t *testing.T, d *Dashboard) {
		watcher := join(t, d)
		next(t, watcher)
		began := time.Now()
		w.change(func() { w.alive[2] = false })
		for {
			m := next(t, watcher)
			if m.Set["node/2"] == nil {
				continue
			}
			if n := get[health.Node](t, m, "node/2"); n.Alive || n.AwaySince == nil {
				t.Errorf("got %+v", n)
			}
			if p := get[health.Partition](t, m, "p/t/1"); p.Leader != -1 || len(p.Offline) != 1 {
				t.Errorf("got %+v", p)
			}
			if o := get[Overview](t, m, "cluster"); o.NodesUp != 2 || o.Leaderless != 1 || o.UnderReplicated != 3 || o.Health.State != health.Broken {
				t.Errorf("got %+v", o)
			}
			break
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		m := next(t, watcher)
		for m.Set["load/2"] == nil {
			m = next(t, watcher)
		}
		if l := get[Load](t, m, "load/2"); l.Error == "" || l.Records != nil {
			t.Errorf("the load of a dead node: %+v", l)
		}
	})
}

func TestNothingIsMadeWhileNobodyWatches(t *testing.T) {
	w := newWorld(3)
	run(t, w, func(t *testing.T, d *Dashboard) {
		time.Sleep(time.Minute) // of the bubble
		if n := w.looked(); n != 0 {
			t.Errorf("it looked %d times", n)
		}
		watcher := join(t, d)
		next(t, watcher)
		next(t, watcher)
		d.hub.leave(watcher)
		time.Sleep(linger + 2*time.Second)
		n := w.looked()
		time.Sleep(time.Minute)
		w.change(func() {})
		time.Sleep(time.Second)
		if again := w.looked(); again != n {
			t.Errorf("it looked %d times after the last one had left", again-n)
		}
		if m := next(t, join(t, d)); !m.Reset {
			t.Error("who comes later does not get all")
		}
	})
}

// Who comes between two messages gets the last one, with its age, and then what has
// changed since that.
func TestWhoComesLaterGetsWhatThereIs(t *testing.T) {
	w := newWorld(3)
	run(t, w, func(t *testing.T, d *Dashboard) {
		first := join(t, d)
		next(t, first)
		time.Sleep(600 * time.Millisecond) // of the bubble
		began := time.Now()
		second := join(t, d)
		m := next(t, second)
		if !m.Reset || m.Age != 600 || m.Set["cluster"] == nil || !time.Now().Equal(began) {
			t.Errorf("after %v: reset %v, %d ms old", time.Since(began), m.Reset, m.Age)
		}
		w.change(func() { w.leader[0] = 3 })
		if m := next(t, second); m.Reset || m.Age != 0 || m.Set["p/t/0"] == nil {
			t.Errorf("then came %+v", m)
		}
	})
}

func TestManyWatchersCostOneLook(t *testing.T) {
	w := newWorld(3)
	run(t, w, func(t *testing.T, d *Dashboard) {
		var all []*watcher
		for range maxWatchers {
			all = append(all, join(t, d))
		}
		if d.hub.join() != nil {
			t.Error("there is no limit")
		}
		for _, watcher := range all {
			next(t, watcher)
		}
		before := w.looked()
		time.Sleep(10 * time.Second)
		if n := w.looked() - before; n < 9 || n > 11 {
			t.Errorf("%d looks in 10 s", n)
		}
	})
}

// A watcher that takes nothing holds nothing up and has no queue that grows; when
// it goes on it gets all there is.
func TestSlowWatcher(t *testing.T) {
	w := newWorld(3)
	run(t, w, func(t *testing.T, d *Dashboard) {
		slow, quick := join(t, d), join(t, d)
		next(t, slow)
		for range 20 {
			w.change(func() { w.leader[0] = w.leader[0]%3 + 1 })
			next(t, quick)
		}
		synctest.Wait()
		if len(slow.c) > behind {
			t.Fatalf("%d messages wait", len(slow.c))
		}
		last := message{}
		for seen := uint64(0); seen < 20; seen = last.Seq {
			m := next(t, slow)
			if seen > 0 && m.Seq != seen+1 && !m.Reset {
				t.Fatalf("message %d follows %d and is not whole", m.Seq, seen)
			}
			if seen == 0 && !m.Reset {
				t.Fatal("messages are missing, and the next is not whole")
			}
			last = m
		}
	})
}

func TestWatchersAreLetGoAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTest(t, newWorld(3))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		next(t, join(t, d))
		cancel()
		<-d.hub.done
		wg.Wait()
		if d.hub.join() != nil {
			t.Error("one may still join")
		}
		if _, err := d.kafka.admin(); err == nil {
			t.Error("one may still ask")
		}
	})
}

// A cluster so large that a look takes long is looked at less often.
func TestCostIsBounded(t *testing.T) {
	w := newWorld(3)
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Options{Node: func() int32 { return 1 }, Changed: w.wait, Winners: func() []Win { return nil }, Look: func() Look {
			time.Sleep(200 * time.Millisecond) // of the bubble: as long as it takes
			return w.look()
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { d.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		watcher := join(t, d)
		if m := next(t, watcher); m.Within != 2500 {
			t.Errorf("the next message is promised within %d ms", m.Within)
		}
		before := w.looked()
		for range 400 {
			w.change(func() {})
			time.Sleep(100 * time.Millisecond)
			for len(watcher.c) > 0 {
				<-watcher.c
			}
		}
		if n := w.looked() - before; n > 16 {
			t.Errorf("%d looks of 200 ms in 40 s", n)
		}
	})
}
