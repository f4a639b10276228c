package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/controller"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/raftnet"
	"github.com/raftsman/raftsman/pkg/election"
	"github.com/raftsman/raftsman/pkg/replication"
)

// takePart keeps the node registered in etcd and stands for election, until
// ctx ends. etcd may be away for any time.
func (n *Node) takePart(ctx context.Context) error {
	keys := n.store.Keys()
	candidate, err := cluster.Encode(cluster.Candidate{Node: n.ID(), Addr: n.self().Peer})
	if err != nil {
		return err
	}
	var ends sync.WaitGroup // of sessions; Run closes the last one before it returns
	defer ends.Wait()
	return election.Run(ctx, n.etcd, election.Config{
		Session: election.SessionConfig{TTL: n.cfg.SessionTTL, Healthy: n.host.Healthy, Logger: n.log},
		Register: func() []election.Registration {
			value, err := cluster.Encode(n.self())
			if err != nil {
				panic(fmt.Sprintf("BUG: encode registration: %v", err)) // plain numbers and strings
			}
			return []election.Registration{{Key: keys.Node(n.ID()), Value: value}}
		},
		OnHeld: n.onHeld,
		OnSession: func(s *election.Session) {
			n.setSession(s)
			ends.Go(func() {
				<-s.Done()
				n.endSession(s)
			})
		},
		Name: keys.Election(), Value: candidate,
		Lead: func(ctx context.Context, l *election.Leadership) error {
			return controller.Run(ctx, l, n.store, n.log)
		},
	})
}

// onHeld decides when another lease holds this node's key. Its own former
// process is dead, since this one has its directory and a port of it; anybody else
// is asked.
func (n *Node) onHeld(held *election.HeldError) (takeOver bool, err error) {
	var other cluster.Node
	if json.Unmarshal(held.Value, &other) != nil {
		return false, nil // nonsense under a lease: wait until it expires
	}
	me := n.self()
	if other.Incarnation == me.Incarnation && (other.Peer == me.Peer || other.Kafka == me.Kafka || other.HTTP == me.HTTP) {
		return true, nil
	}
	if !n.answers(other) {
		return false, nil // probably dead: wait until its lease expires
	}
	return false, fmt.Errorf("node id %d is in use by a live process at %s (pid %d, incarnation %s): give this node another --node-id, or stop that one",
		n.ID(), other.Peer, other.PID, other.Incarnation)
}

// answers asks at a node's HTTP address whether it is that node that serves
// there: another one may have its address by now.
func (n *Node) answers(other cluster.Node) bool {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + other.HTTP + "/cluster.json")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var found struct {
		Self struct {
			Incarnation string `json:"incarnation"`
		} `json:"self"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&found)
	return err == nil && found.Self.Incarnation == other.Incarnation
}

func (n *Node) setSession(s *election.Session) {
	n.mu.Lock()
	n.session, n.registered = s, true
	n.mu.Unlock()
	n.producerIDs.refill(context.Background()) // while etcd is there
	n.checkReady()
	n.wake()
}

// endSession forgets a session, unless a newer one has taken its place.
func (n *Node) endSession(s *election.Session) {
	n.mu.Lock()
	if n.session == s {
		n.session = nil
	}
	n.mu.Unlock()
	n.wake()
}

// self is what this node registers.
func (n *Node) self() cluster.Node {
	peer, _ := advertised(n.cfg.PeerAdvertise, n.peerLn.Addr())
	httpAddr, _ := advertised(n.cfg.HTTPAdvertise, n.httpLn.Addr())
	listeners := make(map[string]string)
	for _, l := range n.kafkaLns {
		listeners[l.Name] = l.Advertised
	}
	me := cluster.Node{
		Node: n.ID(), Incarnation: n.dir.id.Incarnation, Kafka: n.kafkaLns[0].Advertised, HTTP: httpAddr, Peer: peer,
		Rack: n.cfg.Rack, Version: n.cfg.Version, PID: os.Getpid(), Started: n.started.UTC().Truncate(time.Second),
		State: cluster.StateReady, Leads: n.leaders.count(), Replicas: n.replicas.count(),
	}
	if len(listeners) > 1 {
		me.Listeners = listeners
	}
	return me
}

// reconcile follows the view: peers, replicas, leaders.
func (n *Node) reconcile(ctx context.Context) error {
	changed, cancel := n.store.Subscribe()
	defer cancel()
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	retell := time.NewTicker(retellLeaders)
	defer retell.Stop()
	var last *cluster.View
	pending := true
	for {
		v := n.store.View()
		if v != last || pending {
			n.peers.update(v)
			n.host.Net().Refresh()
			pending = n.replicas.reconcile(ctx, v)
			if v != last {
				n.forgetLeaders(v)
			}
			last = v
			if v.Source != cluster.SourceNone {
				n.settle()
			}
			n.changes.notify()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-retry.C:
			n.refreshInSync()
		case <-retell.C:
			for _, peer := range n.peers.Peers() {
				n.leaders.tellAll(peer)
			}
		}
	}
}

// retellLeaders is how often a node repeats what it leads: a message may have
// been dropped.
const retellLeaders = 10 * time.Second

func (n *Node) forgetLeaders(v *cluster.View) {
	if v.Source == cluster.SourceNone {
		return
	}
	topics := make(map[string]bool, len(v.Topics))
	for _, t := range v.Topics {
		topics[t.ID] = true
	}
	n.leaders.forget(func(id partitionID) bool { return topics[id.topicID] })
}

// onStatus comes from a replica whose leadership changed; it must not block.
func (n *Node) onStatus(id partitionID, s replication.Status) {
	n.leaders.set(id, s.Term, s.Leading, []int32{n.ID()}, n.peers.Peers())
}

// inSyncLag is how many entries a replica may be behind to count as in sync.
const inSyncLag = 1000

// refreshInSync tells the peers which replicas are in sync, where it changed.
func (n *Node) refreshInSync() {
	n.replicas.each(func(id partitionID, p *partition.Partition) {
		s := p.Group().Status()
		if !s.Leading {
			return
		}
		var nodes []int32
		for _, replica := range p.Group().InSync(inSyncLag) {
			if node, ok := n.peers.NodeOf(replica); ok && n.alive(node) {
				nodes = append(nodes, node)
			}
		}
		slices.Sort(nodes)
		n.leaders.set(id, s.Term, true, nodes, n.peers.Peers())
	})
}

// watchPeers keeps nodes and leaderships known to each other.
func (n *Node) watchPeers() {
	n.host.Net().Handle(byte(kindLeaders), n.leaders.receive)
	n.host.Net().Watch(func(ev raftnet.PeerEvent) {
		if ev.Up {
			n.leaders.tellAll(ev.Node)
		} else {
			n.verifier.noteLoss()
		}
		n.wake()
	})
}

// reportStatus writes what this node leads to its status key and keeps its
// registration true, as they change and not more often than once a second.
func (n *Node) reportStatus(ctx context.Context) error {
	var (
		written   string
		writtenBy *election.Session
	)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.kick:
		}
		n.mu.Lock()
		session := n.session
		n.mu.Unlock()
		if session != nil {
			status := n.status()
			value, err := cluster.Encode(status)
			if err != nil {
				return err
			}
			if string(value) != written || session != writtenBy {
				if err := n.writeStatus(ctx, session, status); err == nil {
					written, writtenBy = string(value), session
				} else if ctx.Err() == nil {
					n.log.Debug("status could not be written", "err", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (n *Node) writeStatus(ctx context.Context, session *election.Session, status cluster.NodeStatus) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	me, err := cluster.Encode(n.self())
	if err != nil {
		return err
	}
	return errors.Join(
		n.store.SetNodeStatus(ctx, session.Lease(), status),
		session.Update(ctx, n.store.Keys().Node(n.ID()), me))
}

func (n *Node) status() cluster.NodeStatus {
	s := cluster.NodeStatus{Node: n.ID()}
	v := n.store.View()
	names := make(map[string]string, len(v.Topics))
	for name, t := range v.Topics {
		names[t.ID] = name
	}
	for id, l := range n.leaders.led() {
		topic, ok := names[id.topicID]
		if !ok {
			continue
		}
		if s.Leads == nil {
			s.Leads = make(map[string]map[int32]uint64)
		}
		if s.Leads[topic] == nil {
			s.Leads[topic] = make(map[int32]uint64)
		}
		s.Leads[topic][id.index] = l.term
		a := v.Assignments[cluster.TopicPartition{Topic: topic, Partition: id.index}]
		var lagging []int32
		for _, r := range a.Replicas {
			if !slices.Contains(l.inSync, r.Node) {
				lagging = append(lagging, r.Node)
			}
		}
		if len(lagging) > 0 {
			if s.Lagging == nil {
				s.Lagging = make(map[string]map[int32][]int32)
			}
			if s.Lagging[topic] == nil {
				s.Lagging[topic] = make(map[int32][]int32)
			}
			s.Lagging[topic][id.index] = lagging
		}
	}
	return s
}

// settle notes that the replicas of the first view are open.
func (n *Node) settle() {
	n.mu.Lock()
	n.settled = true
	n.mu.Unlock()
	n.checkReady()
	n.wake()
}

func (n *Node) checkReady() {
	if n.readiness() == nil {
		n.readyOnce.Do(func() {
			n.log.Info("ready", "node", n.ID(), "kafka", n.kafkaLns[0].Advertised, "http", n.HTTPAddr(), "peer", n.PeerAddr())
			close(n.ready)
		})
	}
}

// readiness says why this node does not serve yet, or nil. A node that was
// registered once stays ready while etcd is away: it serves data on.
func (n *Node) readiness() error {
	n.mu.Lock()
	registered, settled := n.registered, n.settled
	n.mu.Unlock()
	v := n.store.View()
	switch {
	case !settled:
		return errors.New("replicas are being opened")
	case !registered && v.Source != cluster.SourceDisk:
		return errors.New("not registered in etcd yet")
	case v.Source == cluster.SourceEtcd && !n.seen(v):
		return errors.New("the registration in etcd was not seen yet")
	case !n.host.Healthy():
		return errors.New("the disk of the write-ahead log does not answer")
	}
	return nil
}

// seen says whether the node was ever in its own view.
func (n *Node) seen(v *cluster.View) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := v.Nodes[n.dir.id.NodeID]; ok {
		n.inView = true
	}
	return n.inView
}

// clusterJSON is what any node tells of the cluster.
func (n *Node) clusterJSON() any {
	v := n.store.View()
	nodes := make([]cluster.Node, 0, len(v.Nodes))
	for _, id := range slices.Sorted(maps.Keys(v.Nodes)) {
		nodes = append(nodes, v.Nodes[id])
	}
	return map[string]any{
		"cluster": n.cfg.Cluster, "cluster_id": n.dir.id.ClusterID, "etcd": n.etcd.Endpoints(), "nodes": nodes,
		"self": map[string]any{"node": n.ID(), "incarnation": n.dir.id.Incarnation}, "winner": backend{n}.ControllerID(), "frozen": v.Frozen, "source": v.Source,
	}
}

// Registered says whether the node has a session in etcd now.
func (n *Node) Registered() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.session != nil
}
