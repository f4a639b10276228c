package cluster_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

var withPrefix = clientv3.WithPrefix()

func TestTopics(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	ctx := t.Context()
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	create := func(name string, partitions int32, rf int16) error {
		_, err := s.CreateTopic(ctx, name, partitions, rf, map[string]string{"retention.ms": "1"})
		return err
	}
	is(create("", 1, 1), cluster.ErrInvalidTopic)
	is(create(".", 1, 1), cluster.ErrInvalidTopic)
	is(create("..", 1, 1), cluster.ErrInvalidTopic)
	is(create("a/b", 1, 1), cluster.ErrInvalidTopic)
	is(create("ä", 1, 1), cluster.ErrInvalidTopic)
	is(create(strings.Repeat("x", 250), 1, 1), cluster.ErrInvalidTopic)
	is(create(strings.Repeat("x", 249), 1, 1), nil)
	is(create("t", 0, 1), cluster.ErrInvalidPartitions)
	is(create("t", 100001, 1), cluster.ErrInvalidPartitions)
	is(create("t", 1, 0), cluster.ErrInvalidReplicationFactor)
	is(create("t", 2, 3), nil)
	is(create("t", 2, 3), cluster.ErrTopicExists)
	is(create("a.b", 1, 1), nil)
	is(create("a.b", 1, 1), cluster.ErrTopicExists)
	is(create("a_b", 1, 1), cluster.ErrTopicExists)
	is(create("a_c", 1, 1), nil)

	is(s.CreatePartitions(ctx, "nope", 2), cluster.ErrTopicUnknown)
	is(s.CreatePartitions(ctx, "t", 2), cluster.ErrInvalidPartitions)
	is(s.CreatePartitions(ctx, "t", 1<<20), cluster.ErrInvalidPartitions)
	is(s.CreatePartitions(ctx, "t", 5), nil)
	is(s.AlterTopicConfig(ctx, "t", func(m map[string]string) error { m["cleanup.policy"] = "compact"; return nil }), nil)
	is(s.AlterTopicConfig(ctx, "a.b", func(m map[string]string) error { clear(m); return nil }), nil)
	is(s.AlterTopicConfig(ctx, "nope", func(m map[string]string) error { return nil }), cluster.ErrTopicUnknown)
	refusal := errors.New("no such setting")
	is(s.AlterTopicConfig(ctx, "t", func(m map[string]string) error { clear(m); return refusal }), refusal)
	v := s.sees(t, "the changes", func(v *cluster.View) bool { return len(v.Topics) == 4 && len(v.Topics["a.b"].Config) == 0 })
	if got := v.Topics["t"]; got.Partitions != 5 || got.ReplicationFactor != 3 || len(got.Config) != 2 || got.ID == "" {
		t.Errorf("topic %+v", got)
	}
	if name, _, ok := v.TopicByID(v.Topics["t"].ID); !ok || name != "t" {
		t.Error("not found by id")
	}

	id := v.Topics["t"].ID
	is(s.DeleteTopic(ctx, "t"), nil)
	is(s.DeleteTopic(ctx, "t"), cluster.ErrTopicUnknown)
	is(s.DeleteTopic(ctx, "a/b"), cluster.ErrTopicUnknown)
	v = s.sees(t, "the tombstone", func(v *cluster.View) bool { return len(v.Deleted) == 1 })
	if tomb := v.Deleted[id]; tomb.Topic != "t" || tomb.Deleted.IsZero() {
		t.Errorf("tombstone %+v", tomb)
	}
	if _, ok := v.Topics["t"]; ok {
		t.Error("topic and tombstone at once")
	}
}

func TestConcurrentCreateTopic(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	// Names that collide with each other, and one that does not.
	names := []string{"a.b.c", "a_b.c", "a.b_c", "a_b_c", "abc", "abc"}
	errs := make([]error, 3*len(names))
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = s.CreateTopic(t.Context(), names[i%len(names)], 1, 1, nil) })
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, cluster.ErrTopicExists):
			t.Error(err)
		}
	}
	if made != 2 {
		t.Fatalf("%d were created", made)
	}
	s.sees(t, "two topics", topics(2))
}

func TestNumbersAreNeverGivenTwice(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	a, b := made(t, c, ""), made(t, c, "")
	var mu sync.Mutex
	var firsts []int64
	nodes := map[int32]bool{}
	var wg sync.WaitGroup
	put(t, c, "nodes/3", cluster.Node{Node: 3, Incarnation: "by hand"})
	for i := range 20 {
		wg.Go(func() {
			s := []running{a, b}[i%2]
			first, err := s.AllocProducerIDs(t.Context(), 1000)
			if err != nil {
				t.Error(err)
			}
			id, err := s.AllocNodeID(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			firsts = append(firsts, first)
			if nodes[id] || id == 3 || id < 1 {
				t.Errorf("node id %d", id)
			}
			nodes[id] = true
		})
	}
	wg.Wait()
	slices.Sort(firsts)
	for i, f := range firsts {
		if f != int64(i)*1000+1 {
			t.Fatalf("blocks begin at %v", firsts)
		}
	}
	if err := a.ReserveNodeID(t.Context(), 50); err != nil {
		t.Fatal(err)
	}
	if err := a.ReserveNodeID(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if id, err := b.AllocNodeID(t.Context()); err != nil || id != 51 {
		t.Fatalf("node id %d, %v", id, err)
	}
	put(t, c, "producer-ids", "nonsense")
	if _, err := a.AllocProducerIDs(t.Context(), 1); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("unreadable counter: %v", err)
	}
}

func TestEnsureMetaOnce(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	ids := make([]string, 5)
	var wg sync.WaitGroup
	for i := range ids {
		s := open(t, c, "")
		wg.Go(func() {
			m, err := s.EnsureMeta(t.Context())
			if err != nil {
				t.Error(err)
			}
			ids[i] = m.ClusterID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("cluster ids %v", ids)
		}
	}
}

// The view may lag behind the meta that this very node has made.
func TestMetaMadeUnderARunningStore(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := run(t, c, "")
	eventually(t, "connected", s.Connected)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range int32(200) {
			put(t, c, fmt.Sprintf("topics/t%d", i+1), cluster.Topic{ID: fmt.Sprint(i), Partitions: 1, ReplicationFactor: 1})
		}
	})
	s.sees(t, "some topics", func(v *cluster.View) bool { return len(v.Topics) > 20 })
	if _, err := s.EnsureMeta(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	v := s.sees(t, "all of it", func(v *cluster.View) bool { return len(v.Topics) == 200 })
	if v.Frozen != "" || v.Meta == nil {
		t.Fatalf("frozen %q, meta %v", v.Frozen, v.Meta)
	}
}

func TestStatusDiesWithItsLease(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	es, _ := win(t, c, s.Store, 1)
	st := cluster.NodeStatus{Node: 1, Leads: map[string]map[int32]uint64{"t": {0: 4}}}
	if err := s.SetNodeStatus(t.Context(), es.Lease(), st); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the status", func(v *cluster.View) bool { return v.Status[1].Leads["t"][0] == 4 })
	if err := es.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "no status", func(v *cluster.View) bool { return len(v.Status) == 0 })
	if err := s.SetNodeStatus(t.Context(), es.Lease(), st); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("on a lease that is gone: %v", err)
	}
}

func placement(topic cluster.Topic, name string, p int32, id uint64, counter int64) cluster.Change {
	return cluster.Change{Kind: cluster.Place, TP: cluster.TopicPartition{Topic: name, Partition: p},
		Assignment: cluster.Assignment{TopicID: topic.ID, Epoch: 1, Generation: 1,
			Replicas: []cluster.Replica{{Node: 1, ID: id, Incarnation: "i"}}},
		Topic: topic, CounterRevision: counter, NewIDs: 1}
}

func TestFencedWrites(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	const n = 200 // more than one transaction takes
	topic, err := s.CreateTopic(t.Context(), "t", n, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	es, l := win(t, c, s.Store, 1)
	var changes []cluster.Change
	for p := range int32(n) {
		changes = append(changes, placement(topic, "t", p, uint64(p)+1, 0))
	}
	changes = append(changes, cluster.Change{Kind: cluster.Blocked, TP: cluster.TopicPartition{Topic: "u", Partition: -1}})
	rev, err := s.Fenced(l.Token).Apply(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	v := s.sees(t, "the assignments", func(v *cluster.View) bool { return v.Revision >= rev })
	if a := v.Assignments[cluster.TopicPartition{Topic: "t", Partition: n - 1}]; len(v.Assignments) != n ||
		a.Fence != l.Token.CreateRevision || v.ReplicaIDs.Next != n+1 || v.Topics["t"].Placed != n {
		t.Fatalf("%d assignments, last %+v, ids %+v", len(v.Assignments), a, v.ReplicaIDs)
	}

	// A topic gets more replicas, never fewer; the rest of it stays.
	topic = v.Topics["t"]
	for _, want := range []int16{3, 2} {
		topic.ReplicationFactor = want
		enlarge := cluster.Change{Kind: cluster.Enlarge, TP: cluster.TopicPartition{Topic: "t", Partition: -1}, Topic: topic}
		if rev, err = s.Fenced(l.Token).Apply(t.Context(), []cluster.Change{enlarge}); err != nil && want == 3 {
			t.Fatal(err)
		} else if want == 2 && !errors.Is(err, cluster.ErrConflict) {
			t.Fatalf("on an old view: %v", err)
		}
		if want == 3 {
			v = s.sees(t, "the topic", func(v *cluster.View) bool { return v.Revision >= rev })
		}
	}
	if have := v.Topics["t"]; have.ReplicationFactor != 3 || have.Placed != n || have.Partitions != n || have.ID != topic.ID {
		t.Fatalf("%+v", have)
	}

	topic = v.Topics["t"]
	// An old view is refused, whatever it is old in.
	for name, c := range map[string]cluster.Change{
		"assignment exists": placement(topic, "t", 0, 900, v.ReplicaIDs.ModRevision),
		"ids were taken":    placement(topic, "t", n+1, 900, v.ReplicaIDs.ModRevision-1),
		"topic is another":  placement(cluster.Topic{ID: "x", ModRevision: topic.ModRevision - 1}, "t", n+1, 900, v.ReplicaIDs.ModRevision),
		"removed already":   {Kind: cluster.Remove, TP: cluster.TopicPartition{Topic: "t", Partition: n + 1}, Revision: 5},
		"no such tombstone": {Kind: cluster.Forget, TopicID: "x", Revision: 5},
	} {
		if _, err := s.Fenced(l.Token).Apply(t.Context(), []cluster.Change{c}); !errors.Is(err, cluster.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A stale winner is refused, with the name of the winner.
	if err := es.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := s.sees(t, "nobody leading", func(v *cluster.View) bool { return v.Winner == nil })
	_, err = s.Fenced(l.Token).Apply(t.Context(), []cluster.Change{placement(topic, "t", n+1, 900, v.ReplicaIDs.ModRevision)})
	if !errors.Is(err, cluster.ErrFenced) {
		t.Fatalf("after its session: %v", err)
	}
	_, l2 := win(t, c, s.Store, 2)
	_, err = s.Fenced(l.Token).Apply(t.Context(), []cluster.Change{placement(topic, "t", n+1, 900, v.ReplicaIDs.ModRevision)})
	var fenced *cluster.FencedError
	if !errors.As(err, &fenced) || fenced.Winner.Node != 2 || fenced.Winner.CreateRevision != l2.Token.CreateRevision {
		t.Fatalf("stale winner: %v", err)
	}
	resp, err := c.Get(t.Context(), base, clientv3.WithPrefix(), clientv3.WithMinModRev(before.Revision+1))
	if err != nil || len(resp.Kvs) != 1 || !strings.HasPrefix(string(resp.Kvs[0].Key), base+"leader/") {
		t.Fatalf("a stale winner changed something: %v, %v", resp, err)
	}
}

func TestKeysAreWhatTheDesignSays(t *testing.T) {
	k, err := cluster.NewKeys("", "default")
	if err != nil {
		t.Fatal(err)
	}
	tp := cluster.TopicPartition{Topic: "orders", Partition: 12}
	for got, want := range map[string]string{
		k.Meta(): "meta", k.Node(3): "nodes/3", k.Election(): "leader", k.Topic("orders"): "topics/orders",
		k.Assignment(tp): "assignments/orders/12", k.Status(3): "status/3", k.Deleted("U"): "deleted/U",
		k.ProducerIDs(): "producer-ids", k.ReplicaIDs(): "replica-ids", k.NodeIDs(): "node-ids",
	} {
		if got != "/raftsman/default/"+want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", "a b"} {
		if _, err := cluster.NewKeys("", bad); err == nil {
			t.Errorf("cluster name %q", bad)
		}
	}
	for v, want := range map[string]any{
		`{"node":1,"addr":"a:1"}`: cluster.Candidate{Node: 1, Addr: "a:1"},
		`{"topic_id":"T","replicas":[{"node":2,"id":71,"incarnation":"i"}],"epoch":1,"generation":4,"fence":9}`: cluster.Assignment{
			TopicID: "T", Replicas: []cluster.Replica{{Node: 2, ID: 71, Incarnation: "i"}}, Epoch: 1, Generation: 4, Fence: 9},
		`{"topic_id":"T","partitions":3,"replication_factor":2}`: cluster.Topic{ID: "T", Partitions: 3, ReplicationFactor: 2},
		`{"next":7}`: cluster.Counter{Next: 7},
		`{"node":1,"leads":{"t":{"0":4}},"lagging":{"t":{"0":[2]}}}`: cluster.NodeStatus{Node: 1,
			Leads: map[string]map[int32]uint64{"t": {0: 4}}, Lagging: map[string]map[int32][]int32{"t": {0: {2}}}},
	} {
		got, err := cluster.Encode(want)
		if err != nil || string(got) != v {
			t.Errorf("%T: %s, %v; want %s", want, got, err, fmt.Sprint(v))
		}
	}
}
