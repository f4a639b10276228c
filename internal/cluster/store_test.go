package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

func TestViewFollowsEtcd(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	put(t, c, "topics/early", `{"topic_id":"E","partitions":1,"replication_factor":1,"surprise":true}`)
	s := made(t, c, "")
	v := s.sees(t, "what was there", topics(1))
	eventually(t, "connected", s.Connected)
	if v.Topics["early"].ID != "E" || v.Revision == 0 || v.EtcdClusterID == 0 {
		t.Fatalf("view %+v", v)
	}
	put(t, c, "nodes/2", cluster.Node{Node: 2, Incarnation: "i", Kafka: "k:1", State: cluster.StateReady})
	put(t, c, "assignments/early/0", `{"topic_id":"E","replicas":[{"node":2,"id":7,"incarnation":"i"}],"epoch":1,"generation":3}`)
	put(t, c, "status/2", `{"node":2,"leads":{"early":{"0":5}},"lagging":{"early":{"0":[3]}}}`)
	put(t, c, "deleted/X", `{"topic":"x","deleted":"2026-01-01T00:00:00Z"}`)
	put(t, c, "producer-ids", `{"next":1000}`)
	put(t, c, "leader/b", `{"node":2}`)
	put(t, c, "leader/a", `etcdctl elect says hello`)
	put(t, c, "ops/1", `{"op":"drain"}`)
	v = s.sees(t, "all of it", func(v *cluster.View) bool { return len(v.Candidates) == 2 })
	tp := cluster.TopicPartition{Topic: "early", Partition: 0}
	if v.Nodes[2].Kafka != "k:1" || v.Assignments[tp].Generation != 3 || v.Status[2].Leads["early"][0] != 5 ||
		v.Deleted["X"].Topic != "x" || v.ProducerIDs.Next != 1000 || v.Winner.Node != 2 {
		t.Fatalf("view %+v", v)
	}
	if _, err := c.Delete(t.Context(), base+"leader/b"); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the other winner", func(v *cluster.View) bool { return v.Winner != nil && v.Winner.Key == base+"leader/a" })
	if _, err := c.Delete(t.Context(), base+"nodes/2"); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "no node", func(v *cluster.View) bool { return len(v.Nodes) == 0 })
	if v.Nodes[2].Node != 2 {
		t.Fatal("a published view has changed")
	}
}

func TestManyKeysLoadInPages(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	const n = 4500
	for i := 0; i < n; i += 100 {
		var ops []clientv3.Op
		for j := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%stopics/t%d", base, i+j), `{"topic_id":"E","partitions":1,"replication_factor":1}`))
		}
		if _, err := c.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	run(t, c, "").sees(t, "all topics", topics(n))
}

func TestNonsenseKeepsTheLastGoodValue(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	dir := t.TempDir()
	put(t, c, "topics/bad", `{"topic_id":"B"}`)
	s := made(t, c, dir)
	put(t, c, "topics/t", `{"topic_id":"T","partitions":3,"replication_factor":1}`)
	s.sees(t, "the topic", topics(1))
	put(t, c, "topics/t", `{"topic_id":"T","partitions":`)
	put(t, c, "topics/u", `{"topic_id":"U","partitions":1,"replication_factor":1}`)
	v := s.sees(t, "a later change", topics(2))
	if v.Topics["t"].Partitions != 3 || len(v.Broken) != 2 || !v.IsBroken(cluster.TopicPartition{Topic: "t"}) {
		t.Fatalf("view %+v", v)
	}
	if n := s.logs.count("makes no sense"); n != 2 {
		t.Fatalf("reported %d times", n)
	}
	if err := s.DeleteTopic(t.Context(), "t"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("deleting what can't be read: %v", err)
	}
	put(t, c, "topics/t", `{"topic_id":"T","partitions":4,"replication_factor":1}`)
	v = s.sees(t, "it mended", func(v *cluster.View) bool { return v.Topics["t"].Partitions == 4 })
	if len(v.Broken) != 1 {
		t.Fatalf("broken: %v", v.Broken)
	}
}

func TestEtcdAwayAndBack(t *testing.T) {
	t.Parallel()
	e := testetcd.Reserve(t)
	c := e.Client(t)
	dir := t.TempDir()
	s := run(t, c, dir) // away at the start
	if _, err := s.CreateTopic(t.Context(), "t", 1, 1, nil); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("create without etcd: %v", err)
	}
	if _, err := s.EnsureMeta(t.Context()); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("meta without etcd: %v", err)
	}
	e.Restart(t)
	eventually(t, "connected", s.Connected)
	if _, err := s.EnsureMeta(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateTopic(t.Context(), "t", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	s.sees(t, "the topic", topics(1))

	e.Stop() // soon after it came
	eventually(t, "disconnected", func() bool { return !s.Connected() })
	if _, err := s.CreateTopic(t.Context(), "u", 1, 1, nil); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("create without etcd: %v", err)
	}
	eventually(t, "it to be logged", func() bool {
		return s.logs.count("etcd is away") == 2 && s.logs.count("etcd is back") == 1
	})
	if v := s.View(); len(v.Topics) != 1 || v.Frozen != "" {
		t.Fatalf("view %+v", v)
	}

	// A node that starts now has the view from its disk.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := run(t, c, dir)
	v := again.View()
	if v.Source != cluster.SourceDisk || len(v.Topics) != 1 || v.Meta == nil || v.Revision == 0 {
		t.Fatalf("view from disk: %+v", v)
	}
	e.Restart(t)
	again.sees(t, "etcd again", func(v *cluster.View) bool { return v.Source == cluster.SourceEtcd && len(v.Topics) == 1 })
	put(t, c, "topics/u", `{"topic_id":"U","partitions":1,"replication_factor":1}`)
	again.sees(t, "a change", topics(2))
}

func TestHangingEtcdIsNoticed(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c := e.Client(t)
	s := made(t, c, "")
	e.Freeze()
	eventually(t, "disconnected", func() bool { return !s.Connected() })
	e.Thaw()
	eventually(t, "connected", s.Connected)
}

func TestCompactionUnderTheWatch(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	c := e.Client(t)
	s := made(t, c, "")
	direct, err := clientv3.New(testetcd.ClientConfig(e.Inner()))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	e.Cut() // the watch misses what follows, and etcd forgets it
	var rev int64
	for i := range 50 {
		resp, err := direct.Put(t.Context(), fmt.Sprintf("%stopics/t%d", base, i), `{"topic_id":"T","partitions":1,"replication_factor":1}`)
		if err != nil {
			t.Fatal(err)
		}
		rev = resp.Header.Revision
	}
	if _, err := direct.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	e.Mend(t)
	s.sees(t, "all topics", topics(50))
}

func TestSubscribeCoalesces(t *testing.T) {
	t.Parallel()
	c := testetcd.Start(t).Client(t)
	s := made(t, c, "")
	wake, cancel := s.Subscribe()
	<-wake
	for i := range 10 {
		put(t, c, fmt.Sprintf("topics/t%d", i), `{"topic_id":"T","partitions":1,"replication_factor":1}`)
	}
	s.sees(t, "ten topics", topics(10))
	<-wake
	if len(wake) > 1 {
		t.Fatal("wake-ups pile up")
	}
	cancel()
	cancel()
	ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if _, err := s.WaitFor(ctx, func(*cluster.View) bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestDamagedViewIsSetAside(t *testing.T) {
	t.Parallel()
	e := testetcd.Start(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "view.json"), []byte(`{"format":1,"base":`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := made(t, e.Client(t), dir)
	if _, err := os.Stat(filepath.Join(dir, "view.json.damaged")); err != nil || s.logs.count("set aside") != 1 {
		t.Fatalf("%v\n%s", err, s.logs.all.String())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := cluster.New(cluster.Options{Client: e.Client(t), Cluster: "other", Dir: dir})
	if err == nil {
		t.Fatal("opened another cluster's view")
	}
	if _, err := os.Stat(filepath.Join(dir, "view.json")); err != nil {
		t.Fatalf("a sound file is gone: %v", err)
	}
}
