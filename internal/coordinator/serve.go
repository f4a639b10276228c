package coordinator

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/raftsman/raftsman/internal/group"
	"github.com/raftsman/raftsman/internal/partition"
)

// maxBatchBytes bounds the batch that several writes share; a larger write has
// one of its own.
const maxBatchBytes = 512 << 10

// maxFlights bounds the batches on their way, as many as the partition has entries
// in flight: what comes meanwhile shares the next one.
const maxFlights = 4

// term is a machine at work. All but the flights' outcomes and the verdicts
// belongs to the goroutine in serve.
type term struct {
	c      *Coordinator
	m      *group.Machine
	now    time.Time
	writes []*group.Write // to be appended
	reads  reads
	stats  group.Stats // as the metrics have them
	warned time.Time   // when an oversized write was last logged
	failed bool        // the fate of a write is unknown
	wg     sync.WaitGroup
}

// flight is a batch on its way.
type flight struct {
	writes []*group.Write
	landed bool // under Coordinator.mu
	err    error
}

func newTerm(c *Coordinator, m *group.Machine) *term { return &term{c: c, m: m} }

// serve runs the machine until ctx ends or it is not to be trusted any more.
func (t *term) serve(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	t.tick()
	t.take(t.m.Loaded(t.now))
	for ctx.Err() == nil {
		t.round()
		t.count(t.m.Stats())
		if t.failed {
			break
		}
		var due <-chan time.Time
		if next := t.m.Next(); !next.IsZero() {
			timer.Reset(next.Sub(t.c.opts.Now()))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-t.c.wake:
		case <-due:
		}
	}
	t.resign()
}

// round handles all that has come up. Outcomes go first: what they tell may
// spare requests a wait.
func (t *term) round() {
	c := t.c
	c.mu.Lock()
	landed := 0
	for landed < len(c.flights) && c.flights[landed].landed {
		landed++
	}
	flights := c.flights[:landed:landed]
	c.flights = c.flights[landed:]
	calls, removed, verified := c.calls, c.removed, c.verified
	c.calls, c.removed, c.verified = nil, nil, nil
	altered, groups, bequests := c.altered, c.groups, c.bequests
	c.altered, c.bequests = false, nil
	c.mu.Unlock()

	t.tick()
	if altered {
		t.take(t.m.Configure(t.now, groups))
	}
	for _, f := range flights {
		if t.land(f); t.failed {
			break
		}
	}
	t.conclude(verified)
	for _, topic := range removed {
		t.take(t.m.RemoveTopic(t.now, topic))
	}
	for i, x := range calls {
		if t.failed {
			for _, x := range calls[i:] {
				c.answer(x, nil, kerr.NotCoordinator)
			}
			return
		}
		t.take(t.m.Handle(t.now, x, x.client, x.req))
	}
	for _, b := range bequests { // after the requests: who is heard in them is there
		t.take(t.m.Inherit(t.now, after(b.sessions, t.now.Sub(b.at))))
	}
	if next := t.m.Next(); !next.IsZero() && !next.After(t.now) {
		t.take(t.m.Tick(t.now))
	}
	if !t.failed {
		t.flush()
		t.verify()
	}
}

// take carries out what the machine wants.
func (t *term) take(fx group.Effects) {
	for _, r := range fx.Replies {
		x := r.Ref.(*call)
		if isRead(r.Resp) {
			t.reads.hold(x, r.Resp)
		} else {
			t.c.answer(x, r.Resp, nil)
		}
	}
	t.writes = append(t.writes, fx.Writes...)
	for _, took := range fx.Rebalanced {
		t.c.opts.Metrics.rebalanced(took)
	}
}

// count has the metrics follow the machine.
func (t *term) count(now group.Stats) {
	t.c.opts.Metrics.stats(&t.stats, &now)
	t.stats = now
}

// flying counts the batches on their way.
func (c *Coordinator) flying() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.flights)
}

// flush appends what is to be written, as far as there is room for it. The landing
// of a batch makes room.
func (t *term) flush() {
	most := min(maxBatchBytes, t.c.opts.Log.MaxBatch())
	for len(t.writes) > 0 && t.c.flying() < maxFlights {
		n, size := 0, headerLen
		var records []group.Record
		for n < len(t.writes) {
			more := 0
			for _, r := range t.writes[n].Records {
				more += recordMax(r)
			}
			if n > 0 && size+more > most {
				break
			}
			size += more
			records = append(records, t.writes[n].Records...)
			n++
		}
		t.send(&flight{writes: t.writes[:n:n]}, encodeBatch(records, t.now.UnixMilli()))
		t.writes = t.writes[n:]
	}
	if len(t.writes) == 0 {
		t.writes = nil
	}
}

func (t *term) send(f *flight, batch []byte) {
	c := t.c
	c.mu.Lock()
	c.flights = append(c.flights, f)
	c.mu.Unlock()
	c.opts.Log.Append(c.opts.Term, batch, func(err error) {
		c.mu.Lock()
		f.landed, f.err = true, err
		head := len(c.flights) > 0 && c.flights[0] == f
		c.mu.Unlock()
		if head {
			c.poke()
		}
	})
}

// land tells the machine what became of a batch.
func (t *term) land(f *flight) {
	if f.err != nil && !refused(f.err) {
		t.failed = true // nobody knows, or the term is over
		return
	}
	err := f.err
	if err != nil {
		err = refusal(err)
	}
	if errors.Is(f.err, partition.ErrTooLarge) {
		t.tooLarge(f.writes)
	}
	for _, w := range f.writes {
		t.take(t.m.Stored(t.now, w, err))
	}
}

// largeInterval is the least time between two lines about oversized writes: the
// members of such a group may try again and again.
const largeInterval = 10 * time.Second

// tooLarge tells operators of writes that the topic's max.message.bytes does not
// allow: nothing that clients do makes them smaller.
func (t *term) tooLarge(writes []*group.Write) {
	t.c.opts.Metrics.tooLarge.Add(float64(len(writes)))
	if t.now.Sub(t.warned) < largeInterval {
		return
	}
	t.warned = t.now
	size := 0
	for _, r := range writes[0].Records {
		size += recordMax(r)
	}
	t.c.log.Error("a group can't be stored: raise max.message.bytes of __consumer_offsets, or have fewer members or partitions in the group",
		"group", writes[0].Group, "bytes", size, "limit", t.c.opts.Log.MaxBatch())
}

// refused says whether a batch is known not to be in the log, though the replica
// may go on leading.
func refused(err error) bool {
	return errors.Is(err, partition.ErrTooLarge) || errors.Is(err, partition.ErrBusy)
}

// refusal is what Kafka's clients are told: its errors of an append are turned
// into those of a coordinator.
func refusal(err error) error {
	if errors.Is(err, partition.ErrTooLarge) {
		return kerr.MessageTooLarge
	}
	return kerr.CoordinatorNotAvailable
}

// tick reads the clock. A clock that was set back stands still.
func (t *term) tick() {
	if now := t.c.opts.Now(); now.After(t.now) {
		t.now = now
	}
}

// after is what is left of sessions after some time.
func after(sessions []group.Sessions, d time.Duration) []group.Sessions {
	for i := range sessions {
		for j := range sessions[i].Members {
			sessions[i].Members[j].Left -= d
		}
	}
	return sessions
}

// resign ends the machine and waits for what runs for it.
func (t *term) resign() {
	c := t.c
	t.tick()
	t.count(t.m.Stats())
	c.mu.Lock()
	c.left, c.leftAt = t.m.Sessions(t.now), t.now
	c.mu.Unlock()
	for _, r := range t.m.Resign(t.now).Replies {
		c.answer(r.Ref.(*call), r.Resp, nil)
	}
	t.count(t.m.Stats()) // none are left
	t.wg.Wait()
	t.reads.refuse(c)
	c.mu.Lock()
	c.flights, c.verified = nil, nil
	c.mu.Unlock()
}
