package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/raftnet"
)

// A disk that hangs: the write-ahead log notices by an fsync that lasts
// (replication.Host.Healthy). To the other nodes this one is lost from then on,
// and they elect leaders. raft here waits for the disk, so it can't step down,
// nor answer what was proposed; its clients are sent to the new leaders.

const (
	diskCheck = 100 * time.Millisecond
	// suspendAfter is how long after it was noticed clients are cut off that
	// were not sent elsewhere: they ask other nodes then. A client that comes to
	// them before they have elected leaders is sent back here, and some then wait
	// for seconds.
	suspendAfter = 1500 * time.Millisecond
	// maxAsked partitions are asked for in one message.
	maxAsked = 2000
)

// watchDisk turns clients away while the disk hangs.
func (n *Node) watchDisk(ctx context.Context) {
	tick := time.NewTicker(diskCheck)
	defer tick.Stop()
	var since time.Time // the disk hangs
	suspended := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.turns.turned("disk", turnPatience)
		healthy := n.host.Healthy()
		if healthy {
			if !since.IsZero() {
				n.log.Info("the disk answers again", "after", time.Since(since).Round(time.Millisecond))
				since, suspended = time.Time{}, false
				n.stuck.Store(false)
				n.changes.notify()
				n.kafka.Resume()
			}
			continue
		}
		if since.IsZero() {
			since = time.Now()
			n.stuck.Store(true)
			n.changes.notify() // sessions find their partitions anew
			n.log.Error("the disk of the write-ahead log hangs: this node answers neither nodes nor clients until it goes on; look at the disk", "dir", n.cfg.DataDir)
		}
		if suspended {
			continue
		}
		n.askLeaders(ctx)
		n.kafka.Divert(func(topic string, index int32) bool {
			return backend{n}.ledElsewhere(partitionID{n.store.View().Topics[topic].ID, index})
		})
		if time.Since(since) >= suspendAfter {
			suspended = true
			n.kafka.Suspend()
		}
	}
}

// askedMessage asks a peer which of some partitions it leads: one whose disk
// hangs is not told any more.
type askedMessage struct {
	Partitions []askedRecord `json:"partitions"`
}

type askedRecord struct {
	TopicID string `json:"topic_id"`
	Index   int32  `json:"partition"`
}

// askLeaders asks the peers who leads what this node thinks to lead.
func (n *Node) askLeaders(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, diskCheck)
	defer cancel()
	var asked []askedRecord
	for id := range n.leaders.led() {
		asked = append(asked, askedRecord{id.topicID, id.index})
	}
	var wg sync.WaitGroup
	for part := range slices.Chunk(asked, maxAsked) {
		msg, err := cluster.Encode(askedMessage{part})
		if err != nil {
			panic(fmt.Sprintf("BUG: encode partitions: %v", err)) // plain numbers and strings
		}
		for _, peer := range n.peers.Peers() {
			wg.Go(func() {
				if reply, err := n.host.Net().Call(ctx, peer, raftnet.Control, byte(kindWhoLeads), msg); err == nil {
					_, _ = n.leaders.receive(peer, reply) // nonsense is asked for again
				}
			})
		}
	}
	wg.Wait()
}

// answerAsked says which of the partitions this node leads.
func (l *leaders) answerAsked(from int32, msg []byte) ([]byte, error) {
	var m askedMessage
	if err := json.Unmarshal(msg, &m); err != nil {
		return nil, fmt.Errorf("partitions that node %d asks for: %w", from, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var records []leaderRecord
	for _, a := range m.Partitions[:min(len(m.Partitions), maxAsked)] {
		if k, ok := l.own[partitionID{a.TopicID, a.Index}]; ok {
			records = append(records, leaderRecord{TopicID: a.TopicID, Index: a.Index, Term: k.term, Leading: true, InSync: k.inSync})
		}
	}
	return l.encode(records), nil
}
