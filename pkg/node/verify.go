package node

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/raftnet"
	"github.com/raftsman/raftsman/pkg/replication"
)

const (
	kindEcho      = replication.KindUser + 1
	kindRecovered = replication.KindUser + 16
	kindWhoLeads  = replication.KindUser + 17
	kindDisk      = replication.KindUser + 18

	echoTimeout = 100 * time.Millisecond
	// freshEcho is how long an answer counts.
	freshEcho = 20 * time.Millisecond
	// electionPatience is how long after a node was lost an election may be
	// under way; later, waiting for a leader is of no use.
	electionPatience = 3 * time.Second
)

// verifier knows which nodes have answered just now. A client that lost its
// leader may ask for the new one before this node has noticed the loss.
type verifier struct {
	call func(ctx context.Context, node int32) error

	mu   sync.Mutex
	seen map[int32]time.Time // the last answer
	lost time.Time           // when a node was last lost, or did not answer
	// unled are the partitions that no node has led yet, as far as is known
	// here, and when a client first asked for them.
	unled map[partitionID]time.Time
}

func (v *verifier) noteLoss() {
	v.mu.Lock()
	v.lost = time.Now()
	v.mu.Unlock()
}

// electing says whether a node was lost lately.
func (v *verifier) electing() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Since(v.lost) < electionPatience
}

// expects says whether a partition that no node has led yet may be about to get
// its first leader: for a while from when it was first asked for.
func (v *verifier) expects(id partitionID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	since, ok := v.unled[id]
	if !ok {
		if v.unled == nil {
			v.unled = make(map[partitionID]time.Time)
		}
		since = time.Now()
		v.unled[id] = since
	}
	return time.Since(since) < electionPatience
}

// forget drops the partitions that do not exist any more.
func (v *verifier) forget(exists func(partitionID) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.unled, func(id partitionID, _ time.Time) bool { return !exists(id) })
}

// answer says whether all the nodes answer, and asks those that did not just now.
func (v *verifier) answer(ctx context.Context, nodes map[int32]bool) bool {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		silent bool
	)
	for node := range nodes {
		v.mu.Lock()
		fresh := time.Since(v.seen[node]) < freshEcho
		v.mu.Unlock()
		if fresh {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, echoTimeout)
			defer cancel()
			err := v.call(ctx, node)
			v.mu.Lock()
			if err == nil {
				v.seen[node] = time.Now()
			} else {
				v.lost = time.Now()
			}
			v.mu.Unlock()
			mu.Lock()
			silent = silent || err != nil
			mu.Unlock()
		})
	}
	wg.Wait()
	return !silent
}

// AwaitLeaders implements kafka.Backend.
func (b backend) AwaitLeaders(ctx context.Context, topics []string) {
	retry := time.NewTicker(freshEcho)
	defer retry.Stop()
	for {
		changed := b.n.changes.wait()
		nodes, missing, first := b.leadersOf(topics)
		if missing && !first && !b.n.verifier.electing() {
			return
		}
		if b.n.verifier.answer(ctx, nodes) && !missing && !first {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-retry.C:
		}
	}
}

// leadersOf returns the other nodes that lead partitions of topics, whether a
// placed partition has no leader that is alive, and whether a new partition is
// about to get its first one.
func (b backend) leadersOf(topics []string) (nodes map[int32]bool, missing, first bool) {
	v := b.n.store.View()
	if topics == nil {
		topics = v.TopicNames()
	}
	nodes = make(map[int32]bool)
	for _, name := range topics {
		t, ok := v.Topics[name]
		if !ok {
			continue
		}
		for _, p := range b.topic(v, name, t).Partitions {
			_, placed := v.Assignments[cluster.TopicPartition{Topic: name, Partition: p.Index}]
			switch {
			case p.Leader < 0:
				missing = missing || placed
				id := partitionID{t.ID, p.Index}
				if _, led := b.n.leaders.of(id); !led {
					first = b.n.verifier.expects(id) || first
				}
			case p.Leader != b.NodeID():
				nodes[p.Leader] = true
			}
		}
	}
	return nodes, missing, first
}

const bearingsTimeout = 1500 * time.Millisecond

// takeBearings waits a moment, before the first client is let in, until this
// node knows who leads: it can then send the clients of its former life to the
// right place at once.
func (n *Node) takeBearings(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, bearingsTimeout)
	defer cancel()
	for {
		changed := n.changes.wait()
		n.mu.Lock()
		settled := n.settled
		n.mu.Unlock()
		if _, missing, _ := (backend{n}).leadersOf(nil); settled && !missing {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (n *Node) newVerifier() *verifier {
	n.host.Net().Handle(byte(kindEcho), func(int32, []byte) ([]byte, error) { return nil, nil })
	return &verifier{
		seen: make(map[int32]time.Time),
		call: func(ctx context.Context, node int32) error {
			_, err := n.host.Net().Call(ctx, node, raftnet.Control, byte(kindEcho), nil)
			return err
		},
	}
}
