package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/partition"
	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/pkg/replication"
)

// openStores opens what needs an identity: the log, the groups' network, the
// replicas.
func (n *Node) openStores() error {
	id := n.dir.id
	n.peers = newPeers(id.NodeID)
	n.loadPeers()
	n.peers.update(n.store.View())
	var err error
	n.host, err = replication.Open(replication.Config{
		Dir: n.cfg.DataDir, ClusterID: id.ClusterID, NodeID: id.NodeID, Incarnation: id.Incarnation,
		Store: n.cfg.RaftStore, Listener: n.peerLn, Dial: n.cfg.Dial, Resolver: n.peers,
		HeartbeatTimeout: n.cfg.HeartbeatTimeout, ElectionTimeout: n.cfg.ElectionTimeout, LeaderLease: n.cfg.LeaderLease,
		WALFileSize: n.cfg.WAL.FileSize, WALSizeLimit: n.cfg.WAL.SizeLimit,
		CatchUpRate: n.cfg.CatchUpRate, CatchUps: n.cfg.CatchUpConcurrency, MoveRate: n.cfg.RebalanceRate,
		OnFatal: n.diskFailed, FS: n.cfg.FS, Logger: n.log, Registerer: n.cfg.Registerer,
	})
	if err != nil {
		return withRemedy(err)
	}
	n.onClose("replication", n.host.Close)
	n.writer = seglog.NewWriter(seglog.WriterOptions{Logger: n.log, FS: n.cfg.FS, Dir: n.dir.path()})
	n.onClose("segment writer", n.writer.Close)
	n.leaders = newLeaders(id.NodeID, func(to int32, msg []byte) { n.host.Net().Send(to, byte(kindLeaders), msg) }, n.wake, n.log)
	n.replicas = &replicas{
		fs: n.cfg.FS, dir: n.dir.path("partitions"), self: id.NodeID, incarnation: id.Incarnation, host: n.host,
		segments: seglog.Options{FS: n.cfg.FS, Logger: n.log, Writer: n.writer, OnFatal: n.diskFailed},
		defaults: partition.Settings{
			SegmentBytes: n.cfg.SegmentBytes, RetentionTime: 7 * 24 * time.Hour, RetentionBytes: -1,
			MaxMessageBytes: n.cfg.MessageMaxBytes,
		},
		now: n.now, log: n.log, onStatus: n.onStatus,
		open: make(map[uint64]*opened), of: make(map[partitionID][]*opened), busy: make(map[partitionID]bool),
		fail: make(map[partitionID]time.Time), onDisk: make(map[uint64]replicaFile),
		aside: make(map[uint64]bool), freed: make(map[partitionID]map[uint64]bool), retired: make(map[uint64]uint64),
	}
	if n.mender, err = n.newMender(); err != nil {
		return err
	}
	n.replicas.damaged = n.mender.add
	if err := n.registerSpace(); err != nil {
		return err
	}
	if err := n.registerSlowDisk(); err != nil {
		return err
	}
	if n.freer, err = n.newFreer(); err != nil {
		return err
	}
	if err := n.replicas.scan(); err != nil {
		return err
	}
	if err := n.dir.initialized(); err != nil {
		return err
	}
	n.onClose("replicas", n.replicas.close)
	n.producerIDs = &producerIDs{fs: n.cfg.FS, dir: n.cfg.DataDir, id: id, alloc: n.store.AllocProducerIDs, log: n.log}
	n.producerIDs.load()
	n.onClose("producer ids", func() error { n.producerIDs.close(); return nil })
	n.verifier = n.newVerifier()
	n.watchPeers()
	n.handleDigests()
	return n.host.Start()
}

// openDoors makes the servers that clients come to.
func (n *Node) openDoors() error {
	rf := n.cfg.DefaultReplicationFactor
	if rf == 0 {
		rf = -1 // decided when a topic is created, by the number of live nodes
	}
	var err error
	n.kafka, err = kafka.New(kafka.Options{
		Listeners: n.kafkaLns, Backend: backend{n}, Logger: n.log, Registerer: n.cfg.Registerer,
		AutoCreate: n.cfg.AutoCreateTopics, DefaultPartitions: n.cfg.DefaultPartitions, DefaultRF: rf,
		Limits: kafka.Limits{
			MaxMessageBytes:  int(n.cfg.MessageMaxBytes),
			MaxRequestMemory: n.cfg.KafkaMaxRequestMemory, MaxResponseMemory: n.cfg.KafkaMaxResponseMemory,
		},
	})
	if err != nil {
		return err
	}
	n.gateway, err = gateway.New(gateway.Options{
		Listener: n.httpLn, Ready: n.readiness, ClusterJSON: n.clusterJSON, Evidence: n.evidence, Recovery: n.recovery(), Operator: operator{n}, Verify: n.verify,
		Gatherer: gatherer(n.cfg.Registerer), Pprof: n.cfg.PprofEnabled, Logger: n.log,
	})
	return err
}

func gatherer(r prometheus.Registerer) prometheus.Gatherer {
	if g, ok := r.(prometheus.Gatherer); ok {
		return g
	}
	return prometheus.NewRegistry()
}
