package discovery

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// The model runs candidates on a network that loses, delays and doubles, and stops,
// kills and restarts them at any point: in the middle of making a cluster, between
// the last look and the opening. What it does not do is what nothing can bear:
// docs/adr/0014.

var modelSeed = flag.Uint64("model.seed", 0, "run this seed of the model alone, and say what happens")

type event struct {
	at time.Duration
	n  int // tie-break: order of making
	do func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

type world struct {
	t      *testing.T
	rnd    *rand.Rand
	timing Timing
	now    time.Duration
	queue  events
	n      int
	nodes  []*modelNode
	loss   float64
	delay  time.Duration // at most
	deaf   map[[2]int]bool
	opened int
	loud   bool
}

type modelNode struct {
	w         *world
	index     int
	c         *Candidate
	dead      bool          // or not started yet
	life      int           // events of a former life are void
	until     time.Duration // stopped until then
	cluster   string        // that it has opened or joined
	member    bool
	written   bool // that it opens
	pauses    int
	bootstrap bool
}

func (w *world) after(d time.Duration, do func()) {
	w.n++
	heap.Push(&w.queue, event{w.now + d, w.n, do})
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rnd.Int64N(int64(d) + 1)) }

func (w *world) say(format string, args ...any) {
	if w.loud {
		w.t.Logf("%8v "+format, append([]any{w.now.Round(time.Millisecond)}, args...)...)
	}
}

// when runs something in a node's process: later if it is stopped, never if it has died.
func (n *modelNode) when(d time.Duration, do func()) {
	life := n.life
	var run func()
	run = func() {
		switch {
		case n.life != life:
		case n.w.now < n.until:
			n.w.after(n.until-n.w.now+n.w.upTo(time.Millisecond), run)
		default:
			do()
		}
	}
	n.w.after(d, run)
}

func (n *modelNode) start() {
	n.life++
	n.until, n.dead, n.written = 0, false, false
	n.c = NewCandidate("default", ID(fmt.Sprintf("%016x%016x", n.w.rnd.Uint64(), n.w.rnd.Uint64())), n.bootstrap, "", n.w.timing, n.w.now)
	n.w.say("node %d starts as %.4s", n.index, n.c.id)
	n.when(0, n.tick)
}

func (n *modelNode) tick() {
	w := n.w
	m := n.c.Tick(w.now)
	if n.cluster != "" {
		m = Message{Cluster: "default", From: n.c.id, Seq: m.Seq, State: First}
	}
	if n.member {
		m = Message{Cluster: "default", From: n.c.id, Seq: m.Seq, State: Member, ClusterID: n.cluster, HTTP: "h:1"}
	}
	for _, to := range w.nodes {
		if to == n || w.deaf[[2]int{n.index, to.index}] {
			continue
		}
		for range 1 + w.rnd.IntN(10)/9 { // one in ten is doubled
			full := to.until-w.now > 2*time.Second // nobody empties its socket's buffer
			if w.rnd.Float64() >= w.loss && !full {
				to.when(w.upTo(w.delay), func() { to.c.Receive(w.now, m) })
			}
		}
	}
	if n.cluster == "" {
		n.act()
	}
	n.when(w.timing.Interval, n.tick)
}

func (n *modelNode) act() {
	w := n.w
	// A step begins late: the process was stopped, or a disk was slow.
	late := w.upTo([]time.Duration{10 * time.Millisecond, time.Second, 5 * time.Second}[w.rnd.IntN(3)])
	switch step := n.c.Next(w.now); step {
	case Make:
		w.say("node %d makes", n.index)
		n.when(late, func() { n.c.Made(w.now) })
	case Discard:
		w.say("node %d discards", n.index)
		n.when(late, func() { n.written = false; n.c.Discarded() })
	case Open:
		// The process writes that down, and does nothing else meanwhile.
		if w.rnd.IntN(8) == 0 && !n.between() {
			late = w.upTo(2 * time.Minute)
		}
		if n.written {
			late = 0
		}
		n.until = max(n.until, w.now+late)
		n.when(0, func() {
			n.written = true
			if !n.c.Opened(w.now) {
				w.say("node %d has to ask again before it opens", n.index)
				return
			}
			w.say("node %d opens", n.index)
			n.cluster = string(n.c.id)
			w.opened++
			n.when(w.upTo(5*time.Second), n.serve)
		})
	case Join:
		w.say("node %d joins", n.index)
		n.cluster = n.c.Found()[0].ClusterID
		n.when(w.upTo(20*time.Second), n.serve)
	case Several:
		w.t.Fatalf("node %d found several clusters: %v", n.index, n.c.Found())
	}
}

func (n *modelNode) serve() {
	n.member = true
	n.w.say("node %d serves", n.index)
}

// between says whether the node is what two others know of each other by.
func (n *modelNode) between() bool { return n.index == 2 && len(n.w.deaf) > 0 }

// trouble stops or kills nodes that have not opened a cluster. One that has is
// stopped for less than the others wait for it.
func (w *world) trouble() {
	n := w.nodes[w.rnd.IntN(len(w.nodes))]
	switch {
	case n.dead || n.pauses > 3:
	case w.rnd.IntN(4) == 0 && n.cluster == "" && !n.between():
		w.say("node %d dies", n.index)
		n.pauses++
		n.life++
		n.dead = true
		w.after(w.upTo([]time.Duration{100 * time.Millisecond, 20 * time.Second}[w.rnd.IntN(2)]), n.start)
	default:
		limit := []time.Duration{500 * time.Millisecond, 4 * time.Second, 40 * time.Second}[w.rnd.IntN(3)]
		if n.cluster != "" || n.between() {
			limit = min(limit, 4*time.Second)
		}
		n.pauses++
		d := w.upTo(limit)
		n.until = max(n.until, w.now+d)
		w.say("node %d is stopped for %v", n.index, d)
	}
	w.after(w.upTo(4*time.Second), w.trouble)
}

func runModel(t *testing.T, seed uint64, loud bool) {
	rnd := rand.New(rand.NewPCG(seed, 14))
	w := &world{t: t, rnd: rnd, timing: DefaultTiming(5 * time.Second), deaf: map[[2]int]bool{}, loud: loud}
	w.loss = []float64{0, 0.1, 0.3}[rnd.IntN(3)]
	w.delay = []time.Duration{time.Millisecond, 300 * time.Millisecond, 1500 * time.Millisecond}[rnd.IntN(3)]
	count := 2 + rnd.IntN(5)
	oneWay := false // 0 hears 1, which never grants: they wait until somebody mends that
	spread := []time.Duration{0, time.Second, 20 * time.Second}[rnd.IntN(3)]
	for i := range count {
		w.nodes = append(w.nodes, &modelNode{w: w, index: i, dead: true, bootstrap: i < 2 || rnd.IntN(4) > 0})
	}
	if count >= 3 && rnd.IntN(4) == 0 { // 0 and 1 do not hear each other, all others hear both
		w.deaf[[2]int{0, 1}] = true
		oneWay = rnd.IntN(2) == 0
		w.deaf[[2]int{1, 0}] = !oneWay
		w.nodes[2].bootstrap = true
		spread = min(spread, time.Second)
	}
	for _, n := range w.nodes {
		n.c = NewCandidate("default", NewID(), n.bootstrap, "", w.timing, 0)
		w.after(w.upTo(spread), n.start)
	}
	if rnd.IntN(4) > 0 {
		w.after(w.upTo(8*time.Second), w.trouble)
	}
	for len(w.queue) > 0 && w.now < 10*time.Minute {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
		if w.opened > 1 {
			t.Fatalf("seed %d: two clusters after %v; see -model.seed", seed, w.now)
		}
		done := w.opened == 1
		for _, n := range w.nodes {
			done = done && (n.member || !n.bootstrap || w.deaf[[2]int{0, 1}] && n.index < 2)
		}
		if done {
			return
		}
	}
	if oneWay && w.opened == 0 {
		return
	}
	t.Fatalf("seed %d: after %v there are %d clusters; see -model.seed", seed, w.now, w.opened)
}

// TestOneFirstNode runs the model with many seeds; RAFTSMAN_REPEAT multiplies them.
func TestOneFirstNode(t *testing.T) {
	if *modelSeed != 0 {
		runModel(t, *modelSeed, true)
		return
	}
	seeds := uint64(600)
	if m, err := strconv.ParseUint(os.Getenv("RAFTSMAN_REPEAT"), 10, 32); err == nil && m > 0 {
		seeds *= m
	}
	for seed := range seeds {
		runModel(t, seed+1, false)
	}
}
