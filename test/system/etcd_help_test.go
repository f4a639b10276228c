//go:build system

package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func contextOf(t *testing.T, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), limit)
}

// ask sends one request to one node and nobody else.
func ask[R kmsg.Response](c *cluster, node int, req kmsg.Request) (resp R, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka[node-1]), kgo.DialTimeout(2*time.Second))
	if err != nil {
		return resp, err
	}
	defer client.Close()
	ctx, cancel := contextOf(c.t, 20*time.Second)
	defer cancel()
	got, err := client.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return resp, err
	}
	return got.(R), nil
}

// namedLeader is who leads partition 0 as one node says, 0 for nobody.
func (c *cluster) namedLeader(node int, topic string) int {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, rt)
	resp, err := ask[*kmsg.MetadataResponse](c, node, req)
	if err != nil || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) < 1 {
		return 0
	}
	if leader := resp.Topics[0].Partitions[0].Leader; leader > 0 {
		return int(leader)
	}
	return 0
}

// awaitLeaders waits until every live node names the same leader, not the old
// one, and returns how long each took.
func (c *cluster) awaitLeaders(topic string, from time.Time, old int) map[int]time.Duration {
	c.t.Helper()
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		took  = map[int]time.Duration{}
		named = map[int]int{}
	)
	for id := range len(c.nodes) {
		if id+1 == old {
			continue
		}
		wg.Go(func() {
			for time.Since(from) < 30*time.Second {
				if leader := c.namedLeader(id+1, topic); leader > 0 && leader != old {
					mu.Lock()
					took[id+1], named[id+1] = time.Since(from).Round(time.Millisecond), leader
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if len(took) != len(c.nodes)-1 {
		c.t.Errorf("only nodes %v name a new leader within 30s", slices.Sorted(maps.Keys(took)))
	}
	leaders := map[int]bool{}
	for _, l := range named {
		leaders[l] = true
	}
	if len(leaders) > 1 {
		c.t.Errorf("the nodes name different leaders: %v", named)
	}
	return took
}

// tryCreate asks one node for a new topic.
func (c *cluster) tryCreate(node int, topic string) (message string, code error) {
	c.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 5000
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, 1, 1
	req.Topics = append(req.Topics, rt)
	resp, err := ask[*kmsg.CreateTopicsResponse](c, node, req)
	if err != nil {
		c.t.Errorf("node %d: create %s: %v", node, topic, err)
		return "", nil
	}
	if m := resp.Topics[0].ErrorMessage; m != nil {
		message = *m
	}
	return message, kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

func retriable(err error) bool { return err != nil && kerr.IsRetriable(err) }

// withoutReplica is a node that has no replica of a topic's partition 0.
func (c *cluster) withoutReplica(topic string) int {
	c.t.Helper()
	var a struct {
		Replicas []struct {
			Node int `json:"node"`
		} `json:"replicas"`
	}
	if err := json.Unmarshal([]byte(c.etcdctl("get", "--print-value-only", "/raftsman/default/assignments/"+topic+"/0")), &a); err != nil {
		c.t.Fatal(err)
	}
	has := map[int]bool{}
	for _, r := range a.Replicas {
		has[r.Node] = true
	}
	for id := range len(c.nodes) {
		if !has[id+1] {
			return id + 1
		}
	}
	c.t.Fatalf("every node has a replica of %s: %v", topic, a)
	return 0
}

// winnerOrNone is winner while etcd may not answer yet.
func (c *cluster) winnerOrNone() (id int) {
	ctx, cancel := contextOf(c.t, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(c.t, "etcdctl"), "--endpoints", strings.Join(c.etcdURL, ","), "get", "--prefix",
		"/raftsman/default/leader/", "--sort-by", "CREATE", "--order", "ASCEND", "--limit", "1", "--print-value-only")
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	out, err := cmd.Output()
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscanf(string(out), `{"node":%d`, &id); err != nil {
		return 0
	}
	return id
}

// takenIDs are all producer ids that were ever handed out.
type takenIDs struct {
	t    *testing.T
	c    *cluster
	mu   sync.Mutex
	from map[int64][]string
	last int64 // highest
}

func newIDs(t *testing.T, c *cluster) *takenIDs {
	return &takenIDs{t: t, c: c, from: map[int64][]string{}}
}

// take asks nodes for some ids each.
func (i *takenIDs) take(nodes ...int) (lowest int64) {
	i.t.Helper()
	lowest = 1 << 62
	for _, node := range nodes {
		lowest = min(lowest, i.takeMany(node, 3))
	}
	return lowest
}

func (i *takenIDs) takeMany(node, n int) (lowest int64) {
	i.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(i.c.kafka[node-1]), kgo.DialTimeout(2*time.Second))
	if err != nil {
		i.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := contextOf(i.t, 2*time.Minute)
	defer cancel()
	lowest = 1 << 62
	for range n {
		for {
			resp, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(ctx, client.SeedBrokers()[0])
			if err == nil {
				err = kerr.ErrorForCode(resp.ErrorCode)
			}
			if errors.Is(err, kerr.CoordinatorLoadInProgress) && ctx.Err() == nil {
				continue
			}
			if err != nil {
				i.t.Fatalf("node %d hands out no producer id: %v", node, err)
			}
			i.mu.Lock()
			i.from[resp.ProducerID] = append(i.from[resp.ProducerID], fmt.Sprintf("node %d", node))
			i.last = max(i.last, resp.ProducerID)
			i.mu.Unlock()
			lowest = min(lowest, resp.ProducerID)
			break
		}
	}
	return lowest
}

func (i *takenIDs) verify() {
	i.t.Helper()
	for id, from := range i.from {
		if len(from) > 1 {
			i.t.Errorf("producer id %d was handed out by %v", id, from)
		}
	}
	i.t.Logf("%d producer ids, none twice, the highest %d", len(i.from), i.last)
}

// reading is a consumer that reads partition 0 of a load all the time.
type reading struct {
	client *kgo.Client
	done   chan struct{}
	cancel context.CancelFunc

	mu   sync.Mutex
	last int
	errs []error
}

func startReading(t *testing.T, brokers []string, topic string) *reading {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(250*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &reading{client: client, done: make(chan struct{}), cancel: cancel, last: -1}
	go r.run(ctx)
	t.Cleanup(func() {
		cancel()
		<-r.done
		client.Close()
	})
	return r
}

func (r *reading) run(ctx context.Context) {
	defer close(r.done)
	for {
		fetches := r.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		fetches.EachError(func(_ string, p int32, err error) { r.errs = append(r.errs, err) })
		fetches.EachRecord(func(rec *kgo.Record) {
			n, err := strconv.Atoi(string(rec.Value))
			if err != nil || n <= r.last {
				r.errs = append(r.errs, fmt.Errorf("offset %d holds %q after %d", rec.Offset, rec.Value, r.last))
			}
			r.last = n
		})
		r.mu.Unlock()
	}
}

// goesOn waits until the reader has what the load has written by now.
func (r *reading) goesOn(t *testing.T, l *load) {
	t.Helper()
	l.mu.Lock()
	want := 0
	for n := range l.acked {
		want = max(want, n)
	}
	l.mu.Unlock()
	waitFor(t, "the consumer", 30*time.Second, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.last >= want
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.errs {
		t.Errorf("the consumer saw: %v", err)
	}
}

func (r *reading) finish(t *testing.T, l *load) {
	t.Helper()
	r.goesOn(t, l)
	r.cancel()
	<-r.done
}
