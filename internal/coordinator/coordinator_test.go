package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/group"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
)

// start runs a coordinator until the test ends, or stop is called.
func start(t testing.TB, opts Options) (c *Coordinator, stop func()) {
	t.Helper()
	c = New(opts)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return c, stop
}

func serves(t testing.TB, c *Coordinator) {
	t.Helper()
	eventually(t, "the coordinator serves", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state == serving
	})
}

// What was committed is read back, by the next coordinator too.
func TestOffsetsSurviveCoordinators(t *testing.T) {
	l := newMemLog()
	for round := range int64(3) {
		opts := options(l)
		opts.Term = uint64(round + 1)
		l.lead(opts.Term)
		c, stop := start(t, opts)
		serves(t, c)
		for g := range 5 {
			name := fmt.Sprint("g", g)
			want := round*10 - 10 + int64(g)
			if round == 0 {
				want = -1
			}
			if got := committed(t, ask(c, fetch(name))); got != want {
				t.Errorf("round %d: %s is at %d, want %d", round, name, got, want)
			}
			if err := commitCode(t, ask(c, commit(name, round*10+int64(g)))); err != nil {
				t.Errorf("round %d: commit: %v", round, err)
			}
		}
		stop()
		if a := ask(c, fetch("g0")); a.wait(t).err != kerr.NotCoordinator {
			t.Errorf("after the end: %v", a.err)
		}
	}
}

// A compacted log has gaps, at its end too; what is left is what counts.
func TestCompactedLog(t *testing.T) {
	l := newMemLog()
	c, stop := start(t, options(l))
	serves(t, c)
	for i := range 5 {
		if err := commitCode(t, ask(c, commit([]string{"g", "h"}[i%2], int64(i)))); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	for _, test := range []struct {
		gone []int
		g, h int64
	}{
		{[]int{0, 1, 2}, 4, 3}, // all but the last of each
		{[]int{1}, -1, 3},      // the end is gone
		{[]int{0}, -1, -1},
	} {
		l.compact(test.gone...)
		c, stop := start(t, options(l))
		serves(t, c)
		if g, h := committed(t, ask(c, fetch("g"))), committed(t, ask(c, fetch("h"))); g != test.g || h != test.h {
			t.Errorf("without %v: %d and %d, want %d and %d", test.gone, g, h, test.g, test.h)
		}
		stop()
	}
}

// What comes while a batch is on its way shares the next one.
func TestCommitsShareBatches(t *testing.T) {
	l := newMemLog()
	c, _ := start(t, options(l))
	serves(t, c)
	l.set(func() { l.hold = true })
	all := []*asked{ask(c, commit("g", 0))}
	eventually(t, "the first batch is on its way", func() bool { return l.heldCount() == 1 })
	c.mu.Lock() // the coordinator can't take any before all are there
	const n = 500
	for i := range n {
		x := &asked{done: make(chan struct{})}
		all = append(all, x)
		c.waiting++
		c.calls = append(c.calls, &call{req: commit(fmt.Sprint("g", i), int64(i)), done: settle(x)})
	}
	c.poke()
	c.mu.Unlock()
	eventually(t, "the second batch is on its way", func() bool { return l.heldCount() >= 2 })
	l.release()
	for _, a := range all {
		if err := commitCode(t, a); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.batches(); got != 2 {
		t.Errorf("%d batches, want 2", got)
	}
}

// A read is not answered before the term is confirmed, and many share one
// confirmation.
func TestReadsAreVerified(t *testing.T) {
	l := newMemLog()
	c, _ := start(t, options(l))
	serves(t, c)
	gate := make(chan struct{})
	l.set(func() { l.gate = gate })
	first := ask(c, fetch("g"))
	eventually(t, "a confirmation is under way", func() bool { return l.verifyCount() == 1 })
	var more []*asked
	for range 100 {
		more = append(more, ask(c, fetch("g")))
	}
	// A commit passes them: by its answer the coordinator has taken all before it.
	if err := commitCode(t, ask(c, commit("g", 7))); err != nil {
		t.Fatal(err)
	}
	if first.answered() || more[99].answered() {
		t.Fatal("a read was answered without a confirmation")
	}
	l.set(func() { l.gate = nil })
	close(gate)
	committed(t, first)
	for _, a := range more {
		committed(t, a)
	}
	if got := l.verifyCount(); got != 2 {
		t.Errorf("%d confirmations, want 2", got)
	}
}

func TestUnconfirmedReadsAreRefused(t *testing.T) {
	l := newMemLog()
	c, _ := start(t, options(l))
	serves(t, c)
	l.set(func() { l.unsure = errors.New("no majority") })
	if a := ask(c, fetch("g")).wait(t); a.err != kerr.NotCoordinator {
		t.Errorf("got %v", a.err)
	}
}

// While the log is not the leader's, clients are asked to wait; when the term is
// over, to look elsewhere.
func TestStates(t *testing.T) {
	l := newMemLog()
	l.lead(0)
	c, _ := start(t, options(l))
	if a := ask(c, fetch("g")).wait(t); a.err != kerr.CoordinatorLoadInProgress {
		t.Errorf("loading: %v", a.err)
	}
	l.lead(1)
	serves(t, c)
	l.lead(0)
	if err := commitCode(t, ask(c, commit("g", 1))); err != kerr.NotCoordinator {
		t.Errorf("deposed: %v", err)
	}
	eventually(t, "the coordinator is over", func() bool {
		return errors.Is(ask(c, fetch("g")).wait(t).err, kerr.NotCoordinator)
	})
	if l.batches() != 0 {
		t.Error("a deposed coordinator has written")
	}
}

// A batch whose fate is unknown ends the machine; the next one is loaded from
// the log, whatever it holds.
func TestDoubtReloads(t *testing.T) {
	l := newMemLog()
	c, _ := start(t, options(l))
	serves(t, c)
	if err := commitCode(t, ask(c, commit("g", 1))); err != nil {
		t.Fatal(err)
	}
	l.set(func() { l.fail = partition.ErrNotLeader })
	if err := commitCode(t, ask(c, commit("g", 2))); err != kerr.NotCoordinator {
		t.Fatalf("in doubt: %v", err)
	}
	l.set(func() { // it was committed after all
		l.fail = nil
		l.put(append([]byte(nil), l.bytes[l.starts[len(l.starts)-1]:]...))
	})
	eventually(t, "a new machine serves", func() bool {
		a := ask(c, fetch("g")).wait(t)
		return a.err == nil && committed(t, a) == 1
	})
	if err := commitCode(t, ask(c, commit("g", 3))); err != nil {
		t.Fatal(err)
	}
}

// What the log refuses for good is told, and the coordinator goes on.
func TestRefusedWrites(t *testing.T) {
	for _, test := range []struct{ fail, want error }{
		{partition.ErrBusy, kerr.CoordinatorNotAvailable},
		{partition.ErrTooLarge, nil}, // whatever Kafka says: the machine chooses
	} {
		l := newMemLog()
		c, _ := start(t, options(l))
		serves(t, c)
		l.set(func() { l.fail = test.fail })
		err := commitCode(t, ask(c, commit("g", 2)))
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%v: %v", test.fail, err)
		}
		l.set(func() { l.fail = nil })
		if got := committed(t, ask(c, fetch("g"))); got != -1 {
			t.Errorf("%v: offset %d is there", test.fail, got)
		}
		if err := commitCode(t, ask(c, commit("g", 3))); err != nil {
			t.Errorf("%v: the next one: %v", test.fail, err)
		}
	}
}

// More than MaxWaiting requests are asked to come back.
func TestWaitingIsBounded(t *testing.T) {
	l := newMemLog()
	opts := options(l)
	opts.MaxWaiting = 10
	c, _ := start(t, opts)
	serves(t, c)
	l.set(func() { l.hold = true })
	var all []*asked
	for i := range 15 {
		all = append(all, ask(c, commit("g", int64(i))))
	}
	for i, a := range all[10:] {
		if a.wait(t).err != kerr.CoordinatorLoadInProgress {
			t.Errorf("request %d: %v", 10+i, a.err)
		}
	}
	eventually(t, "what was taken is on its way", func() bool { return l.heldCount() > 0 })
	l.release()
	for _, a := range all[:10] {
		if err := commitCode(t, a); err != nil {
			t.Error(err)
		}
	}
}

// The offsets of a topic that is deleted are forgotten, for good.
func TestRemoveTopic(t *testing.T) {
	l := newMemLog()
	c, stop := start(t, options(l))
	serves(t, c)
	if err := commitCode(t, ask(c, commit("g", 1))); err != nil {
		t.Fatal(err)
	}
	c.RemoveTopic("t")
	eventually(t, "the offset is gone", func() bool { return committed(t, ask(c, fetch("g"))) == -1 })
	eventually(t, "that is in the log", func() bool { return l.batches() == 2 })
	stop()
	c, _ = start(t, options(l))
	serves(t, c)
	if got := committed(t, ask(c, fetch("g"))); got != -1 {
		t.Errorf("the next coordinator has offset %d", got)
	}
}

func TestEncodeBatch(t *testing.T) {
	records := []group.Record{
		{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b")}, {Key: []byte{}, Value: []byte{}},
		{Key: bytes.Repeat([]byte("k"), 300), Value: bytes.Repeat([]byte("v"), 70_000)},
	}
	b, rest, err := seglog.NextBatch(encodeBatch(records, 1234))
	if err != nil || len(rest) != 0 {
		t.Fatal(err, len(rest))
	}
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
	if b.MaxTimestamp() != 1234 || b.BaseTimestamp() != 1234 || b.ProducerID() != -1 || b.LastOffsetDelta() != 3 {
		t.Errorf("header of %x", []byte(b[:headerLen]))
	}
	i := 0
	err = seglog.Records(b, func(offset, ts int64, key, value []byte) bool {
		w := records[i]
		if offset != int64(i) || ts != 1234 || !bytes.Equal(key, w.Key) || !bytes.Equal(value, w.Value) || (value == nil) != (w.Value == nil) {
			t.Errorf("record %d: offset %d, time %d", i, offset, ts)
		}
		i++
		return true
	})
	if err != nil || i != len(records) {
		t.Errorf("%d records, %v", i, err)
	}
}

// Whatever the log holds, loading it ends without a panic.
func FuzzLoad(f *testing.F) {
	good := encodeBatch([]group.Record{{Key: []byte{0, 1, 0, 1, 'g', 0, 1, 't', 0, 0, 0, 0}, Value: []byte{0, 1}}}, 1)
	f.Add(good)
	f.Add(append(good, good...))
	f.Fuzz(func(t *testing.T, log []byte) {
		c := New(options(bytesLog(log)))
		m, err := c.load(context.Background())
		if (m == nil) == (err == nil) {
			t.Fatal("a machine or an error, not", m, err)
		}
	})
}

// bytesLog is a log that is whatever one likes.
type bytesLog []byte

func (l bytesLog) Serves(uint64) (start, end int64, ok bool)   { return 0, 1 << 40, true }
func (l bytesLog) Changed() <-chan struct{}                    { return nil }
func (l bytesLog) Append(_ uint64, _ []byte, done func(error)) { done(nil) }
func (l bytesLog) MaxBatch() int                               { return 1 << 20 }
func (l bytesLog) Verify(uint64) error                         { return nil }
func (l bytesLog) Read(offset int64, _ int) ([]byte, error) {
	if offset > 0 {
		return nil, nil
	}
	return append([]byte(nil), l...), nil
}
