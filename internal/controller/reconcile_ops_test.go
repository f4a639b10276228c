package controller_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/controller"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// obey plays the nodes: each partition is led by its first replica on a live
// node without a wish, and its members are at once what the assignment says.
func obey(t *testing.T, c *clientv3.Client, n node) {
	wake, stop := n.store.Subscribe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); stop(); <-done })
	go func() {
		defer close(done)
		written := map[int32]cluster.NodeStatus{}
		for {
			v := n.store.View()
			for id := range v.Nodes {
				s, newest := status(v, id)
				old, known := written[id]
				if known && old.Assignments >= newest && reflect.DeepEqual(old.Leads, s.Leads) {
					continue
				}
				value, err := cluster.Encode(s)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Put(ctx, n.store.Keys().Status(id), string(value)); err == nil {
					written[id] = s
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-wake:
			}
		}
	}()
}

func status(v *cluster.View, id int32) (s cluster.NodeStatus, newest int64) {
	s = cluster.NodeStatus{Node: id, Assignments: v.Revision, Leads: map[string]map[int32]uint64{}}
	for tp, a := range v.Assignments {
		leader := int32(0)
		for _, r := range a.Replicas {
			if _, up := v.Nodes[r.Node]; up && leader == 0 && v.Wishes[r.Node].State == "" {
				leader = r.Node
			}
		}
		if leader != id {
			continue
		}
		newest = max(newest, a.ModRevision)
		if s.Leads[tp.Topic] == nil {
			s.Leads[tp.Topic] = map[int32]uint64{}
		}
		s.Leads[tp.Topic][tp.Partition] = uint64(a.Generation)
	}
	return s, newest
}

// on is how many replicas are assigned to a node.
func on(v *cluster.View, id int32) (n int) {
	for _, a := range v.Assignments {
		for _, r := range a.Replicas {
			if r.Node == id {
				n++
			}
		}
	}
	return n
}

// ran starts a winner with so many nodes and 12 partitions on three of them.
func ran(t *testing.T, opts controller.Options, nodes int32) (node, *clientv3.Client) {
	t.Helper()
	c := testetcd.Start(t).Client(t)
	n := start(t, c)
	for id := range nodes {
		register(t, c, n, id+1, fmt.Sprint("i", id+1))
	}
	obey(t, c, n)
	_, l := n.win(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		if err := controller.Run(ctx, l, n.store, opts, n.log); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-returned })
	if _, err := n.store.CreateTopic(t.Context(), "t", 12, 3, nil); err != nil {
		t.Fatal(err)
	}
	n.sees(t, "placement", assignments(12))
	return n, c
}

// Operations are asked for with plain etcdctl.
func TestOperationsByPlainPut(t *testing.T) {
	t.Parallel()
	n, c := ran(t, controller.Options{Moves: 4, RebuildDelay: time.Hour, Rate: 50 << 20}, 4)
	ask := func(id, value string) {
		t.Helper()
		if _, err := c.Put(t.Context(), n.store.Keys().Base()+"ops/"+id, value); err != nil {
			t.Fatal(err)
		}
	}
	ends := func(id string, state cluster.OpState) *cluster.View {
		t.Helper()
		return n.sees(t, id+" "+string(state), func(v *cluster.View) bool { return v.Ops[id].State == state })
	}
	ask("gone", `{"kind":"decommission","node":4}`)
	v := ends("gone", cluster.OpDone)
	if op := v.Ops["gone"]; on(v, 4) != 0 || op.Created == nil || op.Started == nil || op.Finished == nil ||
		op.Progress == nil || op.Progress.Done != 9 || op.Progress.Total != 9 || op.Reason == "" {
		t.Errorf("%d replicas left, %+v %+v", on(v, 4), op, op.Progress)
	}
	if v.Wishes[4].State != cluster.WishDecommissioned {
		t.Errorf("wishes %+v", v.Wishes)
	}

	ask("back", `{"kind":"undrain","node":4}`)
	ends("back", cluster.OpDone)
	n.sees(t, "node 4 full again", func(v *cluster.View) bool { return on(v, 4) == 9 && len(v.Wishes) == 0 })

	ask("rest", `{"kind":"drain","node":2}`)
	v = ends("rest", cluster.OpDone)
	if s, _ := status(v, 2); len(s.Leads) != 0 || on(v, 2) != 9 {
		t.Errorf("node 2 leads %v and has %d replicas", s.Leads, on(v, 2))
	}
	ask("refused", `{"kind":"move","topic":"t","partition":3,"replicas":[1,2,7]}`)
	if v = ends("refused", cluster.OpRefused); v.Ops["refused"].Reason == "" {
		t.Error("refused without a reason")
	}
	ask("nonsense", `{"kind":7}`)
	ask("lead", `{"kind":"transfer","topic":"t","partition":0,"node":`+fmt.Sprint(v.Assignments[cluster.TopicPartition{Topic: "t"}].Replicas[2].Node)+`}`)
	n.sees(t, "an end", func(v *cluster.View) bool { return v.Ops["lead"].State.Final() })
	resp, err := c.Get(t.Context(), n.store.Keys().Op("nonsense"))
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != `{"kind":7}` {
		t.Errorf("what makes no sense was touched: %v %v", resp, err)
	}
	if !n.logs.has("op=gone kind=decommission state=done node=4 done=9 total=9") {
		t.Errorf("the log does not tell:\n%s", n.logs.all.String())
	}
}

// A node that stays away is rebuilt without anything else happening; a node that
// returns keeps what it had.
func TestNodeThatStaysAwayIsRebuilt(t *testing.T) {
	t.Parallel()
	n, c := ran(t, controller.Options{Moves: 4, RebuildDelay: 500 * time.Millisecond}, 5)
	before := n.store.View()
	if _, err := c.Delete(t.Context(), n.store.Keys().Node(5)); err != nil {
		t.Fatal(err)
	}
	v := n.sees(t, "its replicas elsewhere", func(v *cluster.View) bool { return on(v, 5) == 0 })
	if on(before, 5) == 0 || len(v.Nodes) != 4 {
		t.Fatalf("%d replicas before, nodes %v", on(before, 5), v.Nodes)
	}
	if !n.logs.has(`msg="a node that holds replicas is away" node=5`) || !n.logs.has("node 5 has been away for 500ms") {
		t.Errorf("the log does not tell:\n%s", n.logs.all.String())
	}
}

func TestNodeThatReturnsKeepsItsReplicas(t *testing.T) {
	t.Parallel()
	n, c := ran(t, controller.Options{Moves: 4, RebuildDelay: time.Hour}, 4)
	before := n.store.View()
	if _, err := c.Delete(t.Context(), n.store.Keys().Node(4)); err != nil {
		t.Fatal(err)
	}
	testetcd.Eventually(t, "it was noticed", func() bool { return n.logs.has("a node that holds replicas is away") })
	register(t, c, n, 4, "i4")
	testetcd.Eventually(t, "its return was noticed", func() bool { return n.logs.has("a node that was away is back") })
	for tp, a := range n.store.View().Assignments {
		if !reflect.DeepEqual(a, before.Assignments[tp]) {
			t.Errorf("%s was changed: %+v", tp, a)
		}
	}
	register(t, c, n, 5, "i5") // nobody is away any more: the balancer works
	n.sees(t, "a new node filled", func(v *cluster.View) bool { return on(v, 5) >= 7 })
}
