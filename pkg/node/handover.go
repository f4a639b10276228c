package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/partition"
)

const (
	handoverPause = 250 * time.Millisecond // between rounds
	// handoversAtOnce and handoverSpacing keep many transfers from disturbing
	// clients: each costs some fsyncs on every replica's node.
	handoversAtOnce = 8
	handoverSpacing = 4 * time.Millisecond
	// inSyncNow is how long ago a successor may have had all that the leader has.
	inSyncNow = time.Second
	// A transfer that failed, or whose leadership came back, is tried again later
	// and later.
	urgentRetry    = 100 * time.Millisecond
	maxUrgentRetry = 2 * time.Second
	maxRetry       = 5 * time.Minute
)

// handover moves leaderships to where they belong: to the preferred leaders, or
// away from a node that sheds them.
type handover struct {
	n    *Node
	wake chan struct{}

	mu    sync.Mutex           // one round at a time
	since map[uint64]time.Time // since when replicas are fit to lead
	retry map[partitionID]attempts
}

// attempts are the transfers of one partition.
type attempts struct {
	count int
	at    time.Time // the last
	again time.Time // not before
}

// tally is what a round has done.
type tally struct {
	moved int // leaderships handed over
	left  int // that could not be, and somebody is there to take them
	alone int // that nobody can take now
	late  int // of those: somebody could who is merely behind
}

func newHandover(n *Node) *handover {
	return &handover{n: n, wake: make(chan struct{}, 1), since: make(map[uint64]time.Time), retry: make(map[partitionID]attempts)}
}

// poke asks for a round now.
func (h *handover) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run makes rounds until ctx ends.
func (h *handover) run(ctx context.Context) {
	tick := time.NewTicker(handoverPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-tick.C:
		}
		h.round(ctx)
	}
}

// transfer is one that a round has decided on.
type transfer struct {
	id partitionID
	p  *partition.Partition
	to uint64
	// urgent ones are for a node that sheds its leaderships, or an operator's.
	urgent bool
}

// round hands over what is due and returns when it is done.
func (h *handover) round(ctx context.Context) (t tally) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.n.store.View()
	if v.Source == cluster.SourceNone {
		return t
	}
	due, t := h.decide(v, time.Now())
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		slots = make(chan struct{}, handoversAtOnce)
		pace  = time.NewTicker(handoverSpacing)
	)
	defer pace.Stop()
	shedding := len(h.n.shedReasons(v)) > 0
	for i, d := range due {
		if ctx.Err() != nil {
			mu.Lock() // earlier ones may still be under way
			t.left += len(due) - i
			mu.Unlock()
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ok := h.transfer(d, shedding)
			mu.Lock()
			defer mu.Unlock()
			h.noteLocked(d.id, ok, d.urgent, time.Now())
			if ok {
				t.moved++
			} else {
				t.left++
			}
		})
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
	wg.Wait()
	return t
}

func (h *handover) transfer(d transfer, shedding bool) (ok bool) {
	began := time.Now()
	h.n.verifier.noteLoss() // clients that ask for the leader meanwhile wait for the next one
	err := d.p.Group().Transfer(d.to)
	node, _ := h.n.peers.NodeOf(d.to)
	facts := []any{"topic", d.p.Topic(), "partition", d.id.index, "to", node, "for", time.Since(began).Round(time.Millisecond)}
	if err != nil {
		h.n.log.Info("leadership could not be handed over, trying again", append(facts, "err", err)...)
		return false
	}
	if shedding {
		h.n.log.Debug("leadership handed over", facts...)
	} else {
		h.n.log.Info("leadership handed over to the preferred leader", facts...)
	}
	return true
}

// noteLocked decides when the partition may be tried again. A leadership that
// was handed over and came back is one that was not: it must not swing.
func (h *handover) noteLocked(id partitionID, ok, urgent bool, now time.Time) {
	a := h.retry[id]
	if now.Sub(a.at) > 2*maxRetry {
		a.count = 0
	}
	first, most := steady, maxRetry
	if urgent {
		first, most = urgentRetry, maxUrgentRetry
	}
	a.at, a.again = now, now.Add(min(first<<min(a.count, 16), most))
	a.count++
	if ok && urgent {
		a = attempts{}
	}
	h.retry[id] = a
}

// decide finds the transfers that are due. What it knows of partitions that are
// led elsewhere by now is forgotten.
func (h *handover) decide(v *cluster.View, now time.Time) (due []transfer, t tally) {
	n := h.n
	shedding := len(n.shedReasons(v)) > 0
	asked := transfersAsked(v)
	takes := make(map[int32]bool)
	for _, node := range n.peers.Peers() {
		takes[node] = n.takesLeaderships(v, node)
	}
	since := make(map[uint64]time.Time)
	n.replicas.each(func(id partitionID, p *partition.Partition) {
		g := p.Group()
		if !g.Status().Leading {
			return
		}
		tp := cluster.TopicPartition{Topic: p.Topic(), Partition: id.index}
		assigned := v.Assignments[tp].Replicas
		if !shedding && (len(assigned) == 0 || assigned[0].ID == g.Replica()) {
			return
		}
		order := replicaIDs(assigned)
		inSync := g.InSync(inSyncNow)
		c := candidacy{self: g.Replica(), order: order, shedding: shedding, now: now}
		c.settled = v.Frozen != "" || v.Rebalance.Paused && !asked[tp]
		c.voters, _ = g.Members()
		c.fit = func(replica uint64) bool {
			node, ok := n.peers.NodeOf(replica)
			return ok && takes[node] && slices.Contains(inSync, replica)
		}
		for _, r := range order {
			if c.fit(r) {
				since[r] = now
				if was, ok := h.since[r]; ok {
					since[r] = was
				}
			}
		}
		c.since = func(replica uint64) time.Time {
			if asked[tp] {
				return time.Time{} // whoever asks does not mean later
			}
			return since[replica]
		}
		c.fresh = func(replica uint64) bool {
			node, _ := n.peers.NodeOf(replica)
			return !asked[tp] && now.Sub(n.host.Net().Restarted(node)) < n.cfg.LeaderReturnDelay
		}
		to, urgent := c.successor(), shedding || asked[tp]
		wait := h.retry[id].again.Sub(now)
		switch {
		case to == 0:
			t.alone++
			if slices.ContainsFunc(c.voters, func(r uint64) bool { node, ok := n.peers.NodeOf(r); return ok && takes[node] }) {
				t.late++
			}
		case wait <= 0, urgent && wait > maxUrgentRetry: // put off for order's sake
			due = append(due, transfer{id, p, to, urgent})
		default:
			t.left++
		}
	})
	h.since = since
	return due, t
}

// transfersAsked are the partitions whose leadership an operator has move.
func transfersAsked(v *cluster.View) map[cluster.TopicPartition]bool {
	asked := make(map[cluster.TopicPartition]bool)
	for _, op := range v.Ops {
		if op.Kind == cluster.OpTransfer && op.State == cluster.OpRunning {
			asked[cluster.TopicPartition{Topic: op.Topic, Partition: op.Partition}] = true
		}
	}
	return asked
}
