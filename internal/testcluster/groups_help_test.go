package testcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// member is a consumer in a group: it reads, then commits what it has read.
type member struct {
	name   string
	client *kgo.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	assigned map[int32]bool
	gained   int            // calls that assigned something
	lost     int            // calls that took something away
	least    int            // partitions after the second assignment, at least
	seen     map[string]int // values, and how often
}

// join adds a member of group g that reads a topic.
func (c *Cluster) join(t *testing.T, name, topic string, opts ...kgo.Opt) *member {
	t.Helper()
	m := &member{name: name, assigned: make(map[int32]bool), seen: make(map[string]int), done: make(chan struct{})}
	change := func(held bool, count *int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if len(changed[topic]) > 0 {
				*count++
			}
			for _, p := range changed[topic] {
				if held {
					m.assigned[p] = true
				} else {
					delete(m.assigned, p)
				}
			}
			if !held {
				m.least = min(m.least, len(m.assigned))
			}
		}
	}
	m.client = c.Client(append([]kgo.Opt{
		kgo.ClientID(name), kgo.ConsumerGroup("g"), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.HeartbeatInterval(100 * time.Millisecond),
		kgo.SessionTimeout(10 * time.Second), kgo.RebalanceTimeout(10 * time.Second), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.OnPartitionsAssigned(change(true, &m.gained)), kgo.OnPartitionsRevoked(change(false, &m.lost)),
		kgo.OnPartitionsLost(change(false, &m.lost)), kgo.DisableFetchSessions(),
	}, opts...)...)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.run(ctx, t)
	t.Cleanup(m.stop)
	return m
}

func (m *member) run(ctx context.Context, t *testing.T) {
	defer close(m.done)
	for dirty := false; ; {
		poll, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := m.client.PollRecords(poll, 50)
		cancel()
		if ctx.Err() != nil {
			m.client.AllowRebalance()
			return
		}
		records := fetches.Records()
		m.mu.Lock()
		for _, r := range records {
			m.seen[string(r.Value)]++
		}
		m.mu.Unlock()
		if dirty = dirty || len(records) > 0; dirty {
			err := m.client.CommitUncommittedOffsets(ctx)
			if err != nil && ctx.Err() == nil && !rebalancing(err) {
				t.Errorf("%s: commit: %v", m.name, err)
			}
			dirty = err != nil
		}
		m.client.AllowRebalance()
	}
}

// rebalancing says whether a commit was refused because the group moves on: what
// stays with the member is committed later, the rest read again.
func rebalancing(err error) bool {
	return errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID)
}

// stop has the member stop reading; its client leaves the group if it is dynamic.
func (m *member) stop() {
	m.cancel()
	<-m.done
	m.client.CloseAllowingRebalance()
}

func (m *member) partitions() []int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.assigned))
}

func (m *member) counts() (gained, lost int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gained, m.lost
}

// share waits until the members have a topic's partitions among themselves, each
// as many as another or one more.
func share(t *testing.T, partitions int, members ...*member) {
	t.Helper()
	testetcd.Eventually(t, "the members share the partitions", func() bool {
		all := make(map[int32]bool)
		for _, m := range members {
			ps := m.partitions()
			if len(ps) < partitions/len(members) {
				return false
			}
			for _, p := range ps {
				if all[p] {
					return false
				}
				all[p] = true
			}
		}
		return len(all) == partitions
	})
}

// write produces values from, from+1, … to all partitions of a topic.
func (c *Cluster) write(t *testing.T, topic string, from, n, partitions int) {
	t.Helper()
	client := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	for i := from; i < from+n; i++ {
		client.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error("produce:", err)
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// read waits until the members have read all values below n.
func read(t *testing.T, n int, members ...*member) {
	t.Helper()
	testetcd.Eventually(t, fmt.Sprintf("all %d records are read", n), func() bool {
		seen := make(map[string]bool)
		for _, m := range members {
			m.mu.Lock()
			for v := range m.seen {
				seen[v] = true
			}
			m.mu.Unlock()
		}
		return len(seen) == n
	})
}

func (c *Cluster) admin(t *testing.T) *kadm.Client {
	t.Helper()
	return kadm.NewClient(c.Client())
}

// create makes a topic with three replicas, and waits for its leaders.
func (c *Cluster) create(t *testing.T, adm *kadm.Client, topic string, partitions int32) {
	t.Helper()
	if _, err := adm.CreateTopic(t.Context(), partitions, -1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// committed is the sum of the offsets that group g has committed, -1 if the
// coordinator can't be asked. Each time a new client asks: franz-go goes on asking
// a coordinator that it can't dial.
func (c *Cluster) committed(t *testing.T, topic string) (sum int64) {
	t.Helper()
	client := c.Client()
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	offsets, err := kadm.NewClient(client).FetchOffsets(ctx, "g")
	if err != nil || offsets.Error() != nil {
		return -1
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic == topic && o.At > 0 {
			sum += o.At
		}
	})
	return sum
}

// coordinator is the node that coordinates group g, 0 while there is none.
func coordinator(ctx context.Context, adm *kadm.Client) int32 {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp := adm.FindGroupCoordinators(ctx, "g")["g"]
	if resp.Err != nil {
		return 0
	}
	return resp.NodeID
}
