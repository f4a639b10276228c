package dashboard

import (
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/health"
)

// world is a cluster that tests change.
type world struct {
	mu      sync.Mutex
	looks   int
	alive   map[int32]bool
	http    map[int32]string
	leader  map[int32]int32 // of the partitions of topic t
	count   int32
	ops     map[string]cluster.Op
	changed chan struct{} // made when somebody waits: in the bubble of the test
}

func newWorld(partitions int32) *world {
	return &world{
		alive: map[int32]bool{1: true, 2: true, 3: true}, http: map[int32]string{}, leader: map[int32]int32{}, count: partitions,
		ops: map[string]cluster.Op{},
	}
}

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

func (w *world) wait() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

func (w *world) looked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looks
}

func (w *world) look() Look {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	v := &cluster.View{
		Source: cluster.SourceEtcd, Nodes: map[int32]cluster.Node{}, Topics: map[string]cluster.Topic{"t": {ID: "id", Partitions: w.count, ReplicationFactor: 3}},
		Assignments: map[cluster.TopicPartition]cluster.Assignment{}, Ops: w.ops, Wishes: map[int32]cluster.NodeWish{}, Status: map[int32]cluster.NodeStatus{},
		Winner: &cluster.Candidate{Node: 1},
	}
	for id := range w.alive {
		v.Nodes[id] = cluster.Node{Node: id, Incarnation: "i", HTTP: w.http[id], State: cluster.StateReady}
	}
	for i := range w.count {
		v.Assignments[cluster.TopicPartition{Topic: "t", Partition: i}] = cluster.Assignment{
			TopicID: "id", Replicas: []cluster.Replica{{Node: 1, ID: 1, Incarnation: "i"}, {Node: 2, ID: 2, Incarnation: "i"}, {Node: 3, ID: 3, Incarnation: "i"}},
		}
	}
	alive := func(id int32) bool { return w.alive[id] }
	partitions := health.Partitions(v, func(_, _ string, i int32) health.Leader {
		l := w.leader[i]
		if l == 0 {
			l = i%3 + 1
		}
		if !w.alive[l] {
			return health.Leader{}
		}
		return health.Leader{Node: l, Term: 7, InSync: []int32{1, 2, 3}}
	}, alive)
	since := time.Unix(1, 0)
	s := health.Snapshot{View: v, Partitions: partitions, Nodes: health.Nodes(v, nil, func(id int32) *time.Time {
		if w.alive[id] {
			return nil
		}
		return &since
	}, partitions)}
	return Look{
		Name: "default", ID: "cluster", Etcd: []string{"http://e:2379"}, EtcdThere: true, Winner: 1, Snapshot: s,
		Health: health.Assess(health.Input{Cluster: "default", Self: 1, Now: since, Snapshot: s}),
	}
}
