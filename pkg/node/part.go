package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
			n.terms.Add(1)
			n.won.Store(l)
			defer n.won.Store(nil)
			return controller.Run(ctx, l, n.store, controller.Options{
				RebuildDelay: n.cfg.ReplicaRebuildDelay, Moves: n.cfg.RebalanceMoves, Rate: n.cfg.RebalanceRate,
				SystemTopics: n.systemTopics,
			}, n.log)
		},
	})
}

func (n *Node) setSession(s *election.Session) {
	n.mu.Lock()
	n.session, n.registered = s, true
	n.mu.Unlock()
	n.store.Retry()
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
		Rack: n.cfg.Rack, Version: n.cfg.Version, Level: cluster.Level, PID: os.Getpid(), Started: n.started.UTC().Truncate(time.Second),
		State: n.state(), Leads: n.leaders.count(), Replicas: n.replicas.count(),
		Load: n.load.note(time.Now(), n.host.WrittenBytes()), SlowDiskMS: n.slow.milliseconds(),
	}
	if len(listeners) > 1 {
		me.Listeners = listeners
	}
	if n.cfg.EtcdMember != nil {
		me.EtcdMember = n.cfg.EtcdMember()
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
	var saver peerSaver
	pending := true
	for {
		n.turns.turned("reconcile", reconcilePatience)
		v := n.store.View()
		if v != last || pending {
			n.peers.update(v)
			n.host.Net().Refresh()
			pending = n.replicas.reconcile(ctx, v)
			if v != last {
				n.winners.note(v, n.now())
				n.forgetLeaders(v)
			}
			if len(v.Broken) > 0 {
				n.wake() // a key of this node's may be among them
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
		case <-n.scan:
			pending = true
		case <-retry.C:
			n.checkReady()
			n.refreshInSync()
			saver.save(n)
		case <-retell.C:
			for _, peer := range n.peers.Peers() {
				n.tellAddress(peer)
				n.tellHolds(peer)
				n.tellRecovered(peer)
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
	exists := func(id partitionID) bool { return topics[id.topicID] }
	n.leaders.forget(exists)
	n.verifier.forget(exists)
	n.replicas.metrics.ForgetTopics(func(topic string) bool { _, ok := v.Topics[topic]; return ok })
}

// onStatus comes from a replica whose leadership changed; it must not block.
func (n *Node) onStatus(id partitionID, replica uint64, s replication.Status) {
	n.leaders.set(id, replica, s.Term, s.Leading, []int32{n.ID()}, n.peers.Peers())
	n.changes.notify() // a follower that hears of its leader from raft tells its clients
}

// inSyncLag is how long ago a replica may have had all that the leader has, to
// count as in sync, as Kafka's replica.lag.time.max.ms.
const inSyncLag = 10 * time.Second

// refreshInSync tells the peers which replicas are in sync, where it changed.
func (n *Node) refreshInSync() {
	peers := n.peers.Peers()
	n.replicas.each(func(id partitionID, p *partition.Partition) {
		s := p.Group().Status()
		if !s.Leading {
			return
		}
		var nodes []int32
		for _, replica := range p.Group().InSync(inSyncLag) {
			if node, ok := n.peers.NodeOf(replica); ok && n.alive(node) && !n.mender.isDamaged(replica) {
				nodes = append(nodes, node)
			}
		}
		slices.Sort(nodes)
		n.leaders.set(id, p.Group().Replica(), s.Term, true, nodes, peers)
	})
}

// watchPeers keeps nodes and leaderships known to each other.
func (n *Node) watchPeers() {
	n.host.Net().Handle(byte(kindLeaders), n.leaders.receive)
	n.host.Net().Handle(byte(kindSessions), n.groups.inherit)
	n.host.Net().Handle(byte(kindAddress), n.hearAddress)
	n.host.Net().Handle(byte(kindHolds), n.hearHolds)
	n.host.Net().Handle(byte(kindRecovered), n.hearRecovered)
	n.host.Net().Handle(byte(kindWhoLeads), n.leaders.answerAsked)
	n.host.Net().Handle(byte(kindDisk), n.slow.hear)
	n.host.Net().Watch(func(ev raftnet.PeerEvent) {
		if ev.Up {
			n.tellAddress(ev.Node)
			n.tellHolds(ev.Node)
			n.tellRecovered(ev.Node)
			n.leaders.tellAll(ev.Node)
		} else {
			n.verifier.noteLoss()
		}
		n.wake()
	})
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
	// The others know a node that has been here before: when etcd answers, and
	// gives it no lease for so long, it serves without.
	unleased := !registered && n.hadView && n.now().Sub(n.started) > n.cfg.SessionTTL
	switch {
	case !settled:
		return errors.New("replicas are being opened")
	case !registered && !unleased && v.Source != cluster.SourceDisk:
		return errors.New("not registered in etcd yet")
	case v.Source == cluster.SourceEtcd && !unleased && !n.seen(v):
		return errors.New("the registration in etcd was not seen yet")
	case n.shed.has(shedStopping):
		return errors.New("the node is stopping")
	case !n.host.Healthy():
		return errors.New("the disk of the write-ahead log does not answer")
	}
	return n.spaceError()
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
	var epoch int64
	if v.Meta != nil {
		epoch = v.Meta.Epoch
	}
	others := any([]struct{}{})
	if n.cfg.OtherClusters != nil {
		others = n.cfg.OtherClusters()
	}
	return map[string]any{
		"own_etcd": n.cfg.Etcd.FollowMembers, "other_clusters": others,
		"epoch":   epoch,
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
