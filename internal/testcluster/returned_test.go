package testcluster

import (
	"slices"
	"testing"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
)

// TestEmptiedReplicaVotesForNobody moves a replica away and back while another one
// lags, again and again: under a new id, as the winner does it, or under the one
// it had, as a move that is cancelled a moment too late would. The emptied node
// and the lagging one, which still takes the former for a member, meet alone:
// they must not elect a leader. RAFTSMAN_ROUNDS is how often.
func TestEmptiedReplicaVotesForNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	rnd, rounds := settings(t, 2)
	c := Start(t, 4, nil)
	m := c.metadata(t)
	if err := m.store.SetRebalance(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	tp, _ := c.place(t, m, "emptied")
	all := c.writers("emptied", 1, 200, 10*time.Millisecond)
	const spare = 4
	start := rnd.IntN(2)
	for round := range rounds {
		fresh(t, "before the move", all)
		first := m.store.View().Assignments[tp]
		victim := 1 + rnd.Int32N(3)
		lagging, whole := others(rnd, victim)
		old := replicaOn(first, victim)
		began := time.Now()

		c.Stop(lagging)
		fresh(t, "that one replica lacks", all)
		moved := m.assign(tp, spare, whole, lagging)
		m.settled(tp)
		c.awaitFreed(t, victim, old)
		fresh(t, "that the emptied one had no part in", all)
		for _, id := range []int32{whole, lagging, spare} {
			c.Network.Cut(victim, id)
		}
		again := (start+round)%2 == 0
		if again {
			m.assignTo(tp, first.Replicas, 0)
		} else {
			m.assign(tp, victim, whole, lagging)
		}
		pass(t, time.Duration(rnd.IntN(1500))*time.Millisecond)
		c.Stop(whole)
		c.Stop(spare)
		s := silent(all)
		c.Restart(lagging)
		c.Network.Heal(victim, lagging)
		pass(t, time.Duration(2000+rnd.IntN(1500))*time.Millisecond)
		s.check(t, "a replica that lags, and an emptied one")
		if c.holds(victim, old) {
			t.Errorf("round %d: node %d has opened replica %d again", round, victim, old)
		}

		c.Network.Heal(victim, whole)
		c.Network.Heal(victim, spare)
		c.Restart(whole)
		c.Restart(spare)
		m.await("a new replica on the emptied node", func(v *cluster.View) bool {
			a := v.Assignments[tp]
			return replicaOn(a, victim) > old && !slices.ContainsFunc(a.Replicas, func(r cluster.Replica) bool { return r.Node == spare })
		})
		m.settled(tp)
		c.awaitFreed(t, spare, replicaOn(moved, spare))
		fresh(t, "after the move back", all)
		t.Logf("round %d: node %d emptied, the same id again %t, node %d lagging: whole after %v", round, victim, again, lagging, time.Since(began).Round(time.Millisecond))
		if t.Failed() {
			break
		}
	}
	c.finish(t, all)
}
