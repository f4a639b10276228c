package testcluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// startRelayed starts three nodes whose clients come through relays.
func startRelayed(t *testing.T) (c *Cluster, relays [4]*Relay, seeds kgo.Opt) {
	var addrs []string
	for id := 1; id <= 3; id++ {
		r, err := NewRelay("")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		relays[id] = r
		addrs = append(addrs, r.Addr())
	}
	c = Start(t, 3, func(cfg *node.Config) { cfg.Listeners[0].Advertise = relays[cfg.NodeID].Addr() })
	for id := int32(1); id <= 3; id++ {
		relays[id].Aim(c.Member(id).Node.KafkaAddr())
	}
	return c, relays, kgo.SeedBrokers(addrs...)
}

// TestResponsesSwallowed loses the leader's responses, all of them or from the
// middle of one, then breaks the connections or stops the leader, in random
// order: the clients try again, and what they wrote is there once and in order.
func TestResponsesSwallowed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	rnd, rounds := settings(t, 12)
	c, relays, seeds := startRelayed(t)
	leaders := c.spread(t, "numbers", 3)
	all := c.writersAs("", "numbers", 3, 200, 2*time.Millisecond, seeds)
	adm := kadm.NewClient(c.Client(seeds))
	fresh(t, "before", all)
	for range rounds {
		partition := rnd.IntN(3)
		testetcd.Eventually(t, "a leader", func() bool {
			leaders = c.leaders(adm, "numbers", 3)
			return leaders[partition] > 0
		})
		id := leaders[partition]
		r := relays[id]
		lost := r.Swallowed()
		spare := rnd.IntN(2) * rnd.IntN(300)
		r.Turn(Open, Swallow, spare)
		testetcd.Eventually(t, "responses to be lost", func() bool { return r.Swallowed() > lost+rnd.IntN(3)*200 })
		what := []string{"connections break", "connections break, then the leader stops", "the leader stops"}[rnd.IntN(3)]
		t.Logf("node %d: %d bytes pass, then no response; %s", id, spare, what)
		if what != "the leader stops" {
			r.Drop() // the clients come again, to the same leader, and hear nothing again
			lost = r.Swallowed()
			testetcd.Eventually(t, "more responses to be lost", func() bool { return r.Swallowed() > lost })
		}
		if what != "connections break" {
			c.Stop(id)
		}
		r.Turn(Open, Open, 0)
		r.Drop()
		if what != "connections break" {
			c.Restart(id)
		}
		fresh(t, "after "+what, all)
	}
	c.finish(t, all)
}

// TestInitProducerIDSwallowed: producers whose first request for an id gets no
// answer, or half of one, begin all the same, each with an id of its own.
func TestInitProducerIDSwallowed(t *testing.T) {
	rnd, rounds := settings(t, 6)
	c, relays, seeds := startRelayed(t)
	c.spread(t, "numbers", 3)
	for round := range rounds {
		all := c.prepare(fmt.Sprint("round", round, "-"), "numbers", 3, 100, seeds)
		for _, w := range all {
			// franz-go gives up on an id when the connection breaks before it
			// knows the broker's versions.
			if _, err := kadm.NewClient(w.client).ApiVersions(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var lost int
		for _, r := range relays[1:] {
			r.Turn(Open, Swallow, rnd.IntN(40))
			lost += r.Swallowed()
		}
		begin(all, 2*time.Millisecond)
		testetcd.Eventually(t, "responses to be lost", func() bool {
			return relays[1].Swallowed()+relays[2].Swallowed()+relays[3].Swallowed() > lost
		})
		for _, r := range relays[1:] {
			r.Turn(Open, Open, 0)
			r.Drop()
		}
		fresh(t, "after the responses were lost", all)
		c.finish(t, all)
	}
}
