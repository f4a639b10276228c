//go:build system

package system

import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestChaos does random harm to nodes and etcd members under an idempotent
// producer. RAFTSMAN_SEED repeats a run's choices, RAFTSMAN_REPEAT makes it
// longer.
func TestChaos(t *testing.T) {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("RAFTSMAN_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("RAFTSMAN_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := startCluster(t, 3, 3*time.Second)
	c.create("numbers", 1)
	l := startLoad(t, c.kafka, "numbers")
	restart := func(ids ...int) {
		for _, id := range ids {
			c.node(id).kill()
		}
		for _, id := range ids {
			c.node(id).start()
		}
		for _, id := range ids {
			c.waitReady(id)
		}
	}
	harms := []struct {
		name string
		do   func()
	}{
		{"kill a node", func() { restart(1 + rnd.IntN(3)) }},
		{"kill two nodes", func() { id := rnd.IntN(3); restart(1+id, 1+(id+1)%3) }},
		{"kill all nodes", func() { restart(1, 2, 3) }},
		{"pause a node", func() {
			id, pause := 1+rnd.IntN(3), time.Duration(rnd.IntN(5000))*time.Millisecond
			c.node(id).signal(syscall.SIGSTOP)
			at := time.Now()
			waitFor(t, "the pause to end", pause+time.Minute, func() bool { return time.Since(at) > pause })
			c.node(id).signal(syscall.SIGCONT)
		}},
		{"kill an etcd member", func() {
			e := c.etcds[rnd.IntN(3)]
			e.kill()
			e.start()
		}},
		{"kill all of etcd", func() {
			for _, e := range c.etcds {
				e.kill()
			}
			pause := time.Duration(rnd.IntN(5000)) * time.Millisecond
			at := time.Now()
			waitFor(t, "the pause to end", pause+time.Minute, func() bool { return time.Since(at) > pause })
			for _, e := range c.etcds {
				e.start()
			}
		}},
	}
	for range repetitions(10) {
		h := harms[rnd.IntN(len(harms))]
		at := time.Now()
		h.do()
		done := time.Now()
		waitFor(t, "acknowledgements after: "+h.name, 60*time.Second, func() bool { return l.ackedSince(done) > 200 })
		gap := l.longestGap(at)
		t.Logf("%s: longest time without an acknowledgement %v", h.name, gap.Round(time.Millisecond))
		if gap > 2*time.Second {
			c.logSince(at)
		}
	}
	l.finish(t)
	l.verify(t, c.kafka)
}
