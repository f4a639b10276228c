package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/discovery"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/httpgateway"
	"github.com/raftsman/raftsman/internal/kafka"
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
		static:   staticConfig(&n.cfg),
		now:      n.now, log: n.log, onStatus: n.onStatus, found: n.changes.notify,
		stepped: func() { n.turns.turned("reconcile", reconcilePatience) },
		open:    make(map[uint64]*opened), of: make(map[partitionID][]*opened), busy: make(map[partitionID]bool), opens: make(map[partitionID]bool),
		fail: make(map[partitionID]time.Time), onDisk: make(map[uint64]replicaFile),
		aside: make(map[uint64]bool), freed: make(map[partitionID]map[uint64]bool), retired: make(map[uint64]uint64),
	}
	if n.mender, err = n.newMender(); err != nil {
		return err
	}
	n.replicas.damaged = n.mender.add
	if n.compactor, err = n.newCompactor(); err != nil {
		return err
	}
	n.replicas.compact, n.replicas.upkeep = n.compactor.add, n.cfg.UpkeepInterval
	if err := n.registerMetrics(); err != nil {
		return err
	}
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
	if n.groups, err = newGroups(n); err != nil {
		return err
	}
	n.verifier = n.newVerifier()
	n.watchPeers()
	n.handleDigests()
	return n.host.Start()
}

// openDoors makes the servers that clients come to.
func (n *Node) openDoors() error {
	var err error
	n.kafka, err = kafka.New(kafka.Options{
		Listeners: n.kafkaLns, Backend: backend{n}, Logger: n.log, Registerer: n.cfg.Registerer,
		RackAware: n.cfg.ReplicaSelector == ReadRack, LogRequests: n.cfg.LogRequests,
		Limits: kafka.Limits{
			MaxMessageBytes:  int(n.cfg.MessageMaxBytes),
			MaxRequestMemory: n.cfg.KafkaMaxRequestMemory, MaxResponseMemory: n.cfg.KafkaMaxResponseMemory,
		},
	})
	if err != nil {
		return err
	}
	if err := n.openForwarder(); err != nil {
		return err
	}
	if err := n.openHTTPGateway(); err != nil {
		return err
	}
	if err := n.openDashboard(); err != nil {
		return err
	}
	n.gateway, err = gateway.New(gateway.Options{
		Listener: n.httpLn, Ready: n.readiness, Alive: n.Alive, ClusterJSON: n.clusterJSON, Evidence: n.evidence, Recovery: n.recovery(), Refiller: refiller{n}, Operator: operator{n}, Verify: n.verify,
		Probes:   gateway.Probes{Leader: n.leaderProbe, Replica: n.replicaHealth},
		Gatherer: gatherer(n.cfg.Registerer), Registerer: n.cfg.Registerer, Pprof: n.cfg.PprofEnabled, Logger: n.log,
		LogLevel: n.cfg.LogLevel, LogRequests: n.cfg.LogRequests,
		Sign: n.sign, API: n.http.Handler(), APIPaths: httpgateway.Paths(), Dashboard: n.dashboard,
	})
	return err
}

// sign is the signature of an answer for one who knows the cluster's secret.
func (n *Node) sign(nonce string, body []byte) string {
	return discovery.Sign(n.cfg.Secret, nonce, body)
}

func gatherer(r prometheus.Registerer) prometheus.Gatherer {
	if g, ok := r.(prometheus.Gatherer); ok {
		return g
	}
	return prometheus.NewRegistry()
}
