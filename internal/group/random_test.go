package group

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"hash"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	seeds    = flag.Int("seeds", 150, "random sequences of events to try")
	onlySeed = flag.Uint64("seed", 0, "try this one alone")
)

// TestRandom plays random events of many clients, with writes that come late, in
// any order or not at all, and coordinators that are lost with writes in flight,
// and checks what must hold whatever happens. It prints the seed of what fails.
func TestRandom(t *testing.T) {
	for seed := uint64(1); seed <= uint64(*seeds); seed++ {
		if *onlySeed != 0 {
			seed = *onlySeed
		}
		w := newWorld(t, seed)
		for range 400 {
			w.step()
		}
		w.quiet()
		if t.Failed() {
			t.Fatalf("again with -run TestRandom -seed %d", seed)
		}
		if *onlySeed != 0 {
			return
		}
	}
}

// TestDeterminism: the same events lead to the same effects, byte for byte.
func TestDeterminism(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		var seen [2]string
		for i := range seen {
			w := newWorld(t, seed)
			for range 400 {
				w.step()
			}
			seen[i] = fmt.Sprintf("%x", w.seen.Sum(nil))
		}
		if seen[0] != seen[1] {
			t.Errorf("seed %d: what events led to is %s, and %s the next time", seed, seen[0], seen[1])
		}
	}
}

// world is clients, a machine and its log.
type world struct {
	t    *testing.T
	r    *rand.Rand
	seed uint64
	m    *Machine
	cfg  Config
	now  time.Time

	clients []*client
	ids     int
	refs    int
	owed    map[int]asked // requests that were not answered

	inFlight []*Write         // not told yet, in order
	outcome  map[*Write]error // told, but some earlier one is not
	order    []*Write         // neither told nor settled, in order
	log      model            // what is settled
	records  []Record
	stale    map[string]bool // groups whose last metadata write was refused

	seen  hash.Hash // all that events led to
	stats Stats     // of this machine, at the last check

	generations map[*group]int32
	protocols   map[string]string // by group and generation, since the last recovery
}

// client is one that follows the protocol, more or less.
type client struct {
	name       string
	group      string
	instance   *string
	id         string
	generation int32
	protocol   string
	leads      bool
	version    int16
}

// asked is a request on its way.
type asked struct {
	c   *client
	req kmsg.Request
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 0)), now: epoch, owed: map[int]asked{},
		outcome: map[*Write]error{}, log: newModel(), stale: map[string]bool{}, seen: sha256.New()}
	w.cfg = Config{
		InitialRebalanceDelay: []time.Duration{-1, time.Second, 3 * time.Second}[w.r.IntN(3)],
		MaxSize:               []int{0, 2, 3}[w.r.IntN(3)],
		OffsetsRetention:      []time.Duration{time.Minute, time.Hour}[w.r.IntN(2)],
		OffsetsRetentionCheck: 20 * time.Second,
		NewMemberID:           func(prefix string) string { w.ids++; return fmt.Sprintf("%s-%d", prefix, w.ids) },
	}
	for i := range 7 {
		c := &client{name: fmt.Sprintf("c%d", i), group: fmt.Sprintf("g%d", i%2), version: int16(w.r.IntN(10))}
		if i%3 == 2 {
			c.version = max(c.version, 5)
			c.instance = kmsg.StringPtr(fmt.Sprintf("i%d", i/4)) // some share one
		}
		w.clients = append(w.clients, c)
	}
	w.recover()
	return w
}

// recover starts another machine, from the log.
func (w *world) recover() {
	w.m, w.stats = New(w.cfg), Stats{}
	w.generations, w.protocols = map[*group]int32{}, map[string]string{}
	w.inFlight, w.order = nil, nil
	clear(w.outcome)
	clear(w.stale)
	for _, r := range w.records {
		if err := w.m.Load(r, w.now); err != nil {
			w.t.Errorf("load: %v", err)
		}
	}
	w.log.check(w.t, w.m)
	for _, g := range w.m.groups {
		w.log.checkGroup(w.t, g)
	}
	w.effects(w.m.Loaded(w.now))
}

func (w *world) step() {
	switch p := w.r.IntN(100); {
	case p < 60:
		w.request(w.clients[w.r.IntN(len(w.clients))])
	case p < 85:
		w.store()
	case p < 95:
		w.pass(time.Duration(w.r.IntN(4000)) * time.Millisecond)
	case p < 97:
		w.pass(time.Duration(w.r.IntN(90)) * time.Second)
	case p < 98:
		w.effects(w.m.RemoveTopic(w.now, fmt.Sprintf("T%d", w.r.IntN(3))))
	case p < 99 && w.r.IntN(3) == 0:
		w.crash()
	case p == 99:
		w.configure()
	}
	w.check()
}

// configure changes the configuration, for later machines too.
func (w *world) configure() {
	w.cfg.InitialRebalanceDelay = []time.Duration{-1, time.Second, 3 * time.Second}[w.r.IntN(3)]
	w.cfg.MaxSize = []int{0, 2, 3}[w.r.IntN(3)]
	w.cfg.OffsetsRetention = []time.Duration{time.Minute, time.Hour}[w.r.IntN(2)]
	w.cfg.OffsetsRetentionCheck = []time.Duration{20 * time.Second, time.Minute}[w.r.IntN(2)]
	w.effects(w.m.Configure(w.now, w.cfg))
}

// pass lets time pass; now and then the machine is told late.
func (w *world) pass(d time.Duration) {
	until := w.now.Add(d)
	for w.r.IntN(10) > 0 {
		next := w.m.Next()
		if next.IsZero() || next.After(until) {
			break
		}
		w.now = next
		w.effects(w.m.Tick(next))
	}
	w.now = until
	w.effects(w.m.Tick(until))
}

// store tells the outcome of a write, mostly of the oldest one.
func (w *world) store() {
	if len(w.inFlight) == 0 {
		return
	}
	i := 0
	if w.r.IntN(4) == 0 {
		i = w.r.IntN(len(w.inFlight))
	}
	var err error
	switch w.r.IntN(20) {
	case 0:
		err = kerr.NotEnoughReplicas
	case 1:
		err = kerr.MessageTooLarge
	case 2:
		err = errors.New("refused")
	}
	w.tell(i, err)
}

func (w *world) tell(i int, err error) {
	one := w.inFlight[i]
	w.inFlight = append(w.inFlight[:i:i], w.inFlight[i+1:]...)
	w.outcome[one] = err
	for len(w.order) > 0 {
		first := w.order[0]
		err, told := w.outcome[first]
		if !told {
			break
		}
		w.order = w.order[1:]
		w.settle(first, err)
	}
	w.effects(w.m.Stored(w.now, one, err))
}

// settle takes a write into the log, if it was not refused.
func (w *world) settle(one *Write, err error) {
	for _, r := range one.Records {
		if r.Key[1] == keyGroup {
			w.stale[groupOf(r)] = err != nil
		}
		if err == nil {
			w.records = append(w.records, r)
			w.log.apply(w.t, r)
		}
	}
}

// crash loses the machine. Of the writes whose outcome nobody was told, the log
// holds the first few.
func (w *world) crash() {
	var sessions []Sessions
	if w.r.IntN(2) == 0 {
		sessions = w.m.Sessions(w.now)
		w.effects(w.m.Resign(w.now))
		if len(w.owed) > 0 {
			w.t.Errorf("seed %d: resigned, and %d requests are not answered", w.seed, len(w.owed))
		}
	}
	clear(w.owed)
	in := w.r.IntN(len(w.order) + 1)
	for i, one := range w.order {
		err, told := w.outcome[one]
		if told || i < in {
			w.settle(one, err)
		}
	}
	w.recover()
	if w.r.IntN(2) == 0 {
		w.pass(time.Duration(w.r.IntN(3000)) * time.Millisecond)
		w.effects(w.m.Inherit(w.now, sessions))
	}
}

// quiet lets everybody go away: all that waits must be answered, and in the end
// nothing may be left.
func (w *world) quiet() {
	for range 4 {
		for len(w.inFlight) > 0 {
			w.tell(0, nil)
			w.check()
		}
		for range 100 {
			w.pass(time.Minute)
			for len(w.inFlight) > 0 {
				w.tell(0, nil)
			}
			w.check()
		}
	}
	if len(w.owed) > 0 || len(w.m.groups) > 0 || len(w.m.timers.heap) != 1 || len(w.m.queue) > 0 {
		w.t.Errorf("seed %d: after hours of quiet %d requests, %d groups, %d timers and %d writes are left",
			w.seed, len(w.owed), len(w.m.groups), len(w.m.timers.heap), len(w.m.queue))
	}
	if len(w.log.offsets) > 0 || len(w.log.groups) > 0 {
		w.t.Errorf("seed %d: after hours of quiet the log has %v", w.seed, w.log)
	}
}
