//go:build system

package system

import (
	"context"
	be "encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// stuckAfter is how long a node's disk may hang before the node counts as lost,
// with what it takes to notice.
const stuckAfter = 4 * time.Second

// pass waits for time to pass: what is observed is that nothing happens meanwhile.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	at := time.Now()
	waitFor(t, "time to pass", d+time.Minute, func() bool { return time.Since(at) > d })
}

// TestFrozenLeader freezes the leader's file system under load: another node
// leads and acknowledges within seconds, and the frozen one acknowledges nothing
// and loses its lease. Thawed, it is a replica again by itself.
func TestFrozenLeader(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	c, disks := onDisks(t, 1<<30, plain)
	c.create("numbers", 1)
	c.create("others", 3)
	l := startLoad(t, c.kafka, "numbers")
	waitFor(t, "acknowledgements", 20*time.Second, func() bool { return l.ackedSince(time.Time{}) > 500 })
	var gaps []time.Duration
	for round := range repetitions(2) {
		old := c.leader("numbers", 0)
		if old == 0 {
			t.Fatal("no leader")
		}
		other := 0
		for c.leader("others", other) != old && other < 3 {
			other++
		}
		if other == 3 && round == 0 {
			t.Fatalf("node %d leads no partition of a topic with three", old)
		}
		direct := startDirect(t, c.kafka[old-1], "others", int32(other))
		waitFor(t, "answers of the leader itself", 20*time.Second, func() bool { return other == 3 || direct.acked.Load() > 5 })
		at := time.Now()
		disks[old-1].freeze()
		frozen := time.Now()
		direct.begin()
		waitFor(t, "acknowledgements of another leader", 30*time.Second, func() bool { return l.ackedSince(frozen.Add(time.Second)) > 100 })
		gaps = append(gaps, l.longestGap(at))
		waitFor(t, "the frozen node's lease to end", 20*time.Second, func() bool { return !c.registered(old) })
		t.Logf("round %d: node %d frozen; longest time without an acknowledgement %v, out of etcd %v after the freeze", round+1, old, gaps[round].Round(time.Millisecond), time.Since(frozen).Round(time.Millisecond))
		if gaps[round] > 6*time.Second {
			c.logSince(at)
		}
		if now := c.leader("numbers", 0); now == old || now == 0 {
			t.Errorf("node %d leads, node %d is frozen", now, old)
		}
		refused, acked := direct.finish()
		t.Logf("sent to the frozen node itself: %d acknowledged, refused with %v", acked, refused)
		if acked > 0 {
			t.Errorf("the frozen node acknowledged %d records", acked)
		}
		if other < 3 && refused[kerr.NotLeaderForPartition.Message] == 0 {
			t.Error("the frozen node told nobody that another one leads")
		}
		thawed := time.Now()
		disks[old-1].unfreeze()
		c.waitReady(old)
		waitFor(t, "the thawed node to be registered and in sync", 30*time.Second, func() bool { return c.registered(old) && c.allInSync("numbers", 3) })
		t.Logf("thawed: registered and in sync after %v", time.Since(thawed).Round(time.Millisecond))
	}
	l.finish(t)
	l.verify(t, c.kafka)
	for id := 1; id <= 3; id++ {
		if n := strings.Count(c.node(id).logs(), "damaged"); n > 0 {
			t.Errorf("node %d speaks of damage %d times", id, n)
		}
	}
}

// TestFrozenFollower freezes a follower's file system: acknowledgements go on.
func TestFrozenFollower(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	c, disks := onDisks(t, 1<<30, plain)
	c.create("numbers", 1)
	l := startLoad(t, c.kafka, "numbers")
	waitFor(t, "acknowledgements", 20*time.Second, func() bool { return l.ackedSince(time.Time{}) > 500 })
	follower := c.leader("numbers", 0)%3 + 1
	at := time.Now()
	disks[follower-1].freeze()
	pass(t, 2*stuckAfter)
	n := l.ackedSince(at)
	t.Logf("%d acknowledgements in %v with node %d frozen, longest time without one %v", n, time.Since(at).Round(time.Millisecond), follower, l.longestGap(at).Round(time.Millisecond))
	if n < 500 {
		t.Errorf("only %d acknowledgements", n)
	}
	disks[follower-1].unfreeze()
	c.waitReady(follower)
	waitFor(t, "the follower to be in sync", 30*time.Second, func() bool { return c.allInSync("numbers", 3) })
	l.finish(t)
	l.verify(t, c.kafka)
}

// TestFrozenMajority freezes two of three file systems: nothing is acknowledged
// until they are thawed.
func TestFrozenMajority(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	c, disks := onDisks(t, 1<<30, plain)
	c.create("numbers", 1)
	l := startLoad(t, c.kafka, "numbers")
	waitFor(t, "acknowledgements", 20*time.Second, func() bool { return l.ackedSince(time.Time{}) > 500 })
	leader := c.leader("numbers", 0)
	for _, ids := range [][2]int{{leader%3 + 1, (leader+1)%3 + 1}, {leader, leader%3 + 1}} {
		for _, id := range ids {
			disks[id-1].freeze()
		}
		pass(t, time.Second) // answers on their way arrive
		from := time.Now()
		pass(t, 3*stuckAfter)
		if n := l.ackedSince(from); n > 0 {
			t.Errorf("%d acknowledgements with nodes %v of three frozen", n, ids)
		}
		thawed := time.Now()
		for _, id := range ids {
			disks[id-1].unfreeze()
		}
		waitFor(t, "acknowledgements after the thaw", time.Minute, func() bool { return l.ackedSince(thawed) > 200 })
		t.Logf("nodes %v frozen for %v: no acknowledgement; first after the thaw within %v", ids, time.Since(from).Round(time.Second), l.longestGap(thawed).Round(time.Millisecond))
		for id := 1; id <= 3; id++ {
			c.waitReady(id)
		}
	}
	l.finish(t)
	l.verify(t, c.kafka)
}

// registered says whether a node has its key in etcd.
func (c *cluster) registered(id int) bool {
	return strings.TrimSpace(c.etcdctl("get", "--keys-only", fmt.Sprintf("/raftsman/default/nodes/%d", id))) != ""
}

// allInSync says whether a topic's partition 0 has so many replicas in sync.
func (c *cluster) allInSync(topic string, n int) bool {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, client)
	return err == nil && len(resp.Topics) == 1 && len(resp.Topics[0].Partitions) > 0 && len(resp.Topics[0].Partitions[0].ISR) == n
}

// direct sends produce requests (acks all) to one node, whoever leads, one
// after another.
type direct struct {
	stop  context.CancelFunc
	done  chan struct{}
	acked atomic.Int64

	mu      sync.Mutex
	skip    bool
	refused map[string]int
}

// begin counts anew, and not what is on its way already.
func (d *direct) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.skip = true
	d.acked.Store(0)
	clear(d.refused)
}

func startDirect(t *testing.T, addr, topic string, partition int32) *direct {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RequestRetries(0), kgo.RetryTimeout(time.Second),
		kgo.MaxVersions(kversion.V2_8_0())) // later ones name topics by id
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d := &direct{stop: cancel, done: make(chan struct{}), refused: make(map[string]int)}
	// The address of a seed: its id need not be known from metadata.
	seed := client.SeedBrokers()[0]
	go func() {
		defer close(d.done)
		defer client.Close()
		pace := time.NewTicker(50 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			once, end := context.WithTimeout(ctx, 2*time.Second)
			resp, err := seed.Request(once, produceRequest(topic, partition, []byte("to one node")))
			end()
			d.note(resp, err)
			select {
			case <-ctx.Done():
			case <-pace.C:
			}
		}
	}()
	t.Cleanup(cancel)
	return d
}

func (d *direct) note(resp kmsg.Response, err error) {
	if err == nil {
		err = kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var ke *kerr.Error
	switch {
	case d.skip:
		d.skip = false
	case err == nil:
		d.acked.Add(1)
	case errors.As(err, &ke):
		d.refused[ke.Message]++
	default:
		d.refused["no answer"]++
	}
}

func (d *direct) finish() (refused map[string]int, acked int64) {
	d.stop()
	<-d.done
	return d.refused, d.acked.Load()
}

// produceRequest has one record.
func produceRequest(topic string, partition int32, value []byte) *kmsg.ProduceRequest {
	r := kmsg.Record{Value: value}
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1, Records: r.AppendTo(nil),
	}
	raw := b.AppendTo(nil)
	be.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	be.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rt.Topic, rp.Partition, rp.Records = topic, partition, raw
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}
