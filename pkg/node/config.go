package node

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/replication"
)

// Stores of the raft logs, for Config.RaftStore.
const (
	RaftStoreWAL    = replication.StoreWAL    // one write-ahead log for all partitions, one fsync for all that wrote
	RaftStoreBoltDB = replication.StoreBoltDB // a raft-boltdb file per partition: simple, and slow with many
)

// Where consumers read, for Config.ReplicaSelector.
const (
	ReadLeader = "leader"     // from the leader
	ReadRack   = "rack-aware" // from an in-sync replica in the consumer's rack, if there is one (KIP-392)
)

// Config of a Node. A zero value stands for the default that its comment
// names; the flag of `raftsman serve` that sets a field is in parentheses.
type Config struct {
	// NodeID is the node's number and its Kafka broker id (--node-id). With 0
	// a new data directory gets the next free number from etcd and keeps it.
	NodeID int32
	// DataDir is where everything of this node lies (--data-dir). It is
	// created when missing and locked while used. No default.
	DataDir string
	// Cluster is the name of the cluster in etcd (--cluster). Default "default".
	Cluster string
	// Rack is where the node stands; replicas are spread over racks (--rack).
	// Default: none.
	Rack string
	// Version is what the node says it runs. Default "dev".
	Version string

	// Etcd is where the cluster's metadata is.
	Etcd Etcd

	// Listeners take Kafka clients (--kafka-addr, --kafka-advertise,
	// --kafka-listener). The first is the one that the command line's clients
	// use. Default: one on 127.0.0.1:9092.
	Listeners []KafkaListener
	// KafkaGatewayAddr is where the node shows itself as the only broker of the
	// cluster, for clients that reach one address only, and forwards what they ask
	// (--kafka-gateway-addr). Default: nowhere.
	KafkaGatewayAddr string
	// KafkaGatewayAdvertise is the address that those clients are told
	// (--kafka-gateway-advertise). See KafkaListener.Advertise.
	KafkaGatewayAdvertise string
	// HTTPAddr is where health, metrics and the gateway listen (--http-addr).
	// Default 127.0.0.1:8080.
	HTTPAddr string
	// HTTPAdvertise is the HTTP address that others are told
	// (--http-advertise). See KafkaListener.Advertise.
	HTTPAdvertise string
	// HTTPMaxRequestBytes bounds a request to the HTTP gateway, in bytes without
	// compression (--http-max-request-bytes). Default 4 MiB; at least 1 KiB, at most
	// 64 MiB.
	HTTPMaxRequestBytes int
	// HTTPMaxRequests is how many requests to the HTTP gateway are answered at once,
	// and as many streams beside them; further ones are refused (--http-max-requests).
	// Default 256.
	HTTPMaxRequests int
	// HTTPAllowedHosts are names by which HTTP gateway and dashboard may be called, besides IP
	// addresses, localhost and the node's own name (--http-allowed-hosts); "*" is any.
	HTTPAllowedHosts []string
	// HTTPAllowedOrigins are web pages elsewhere that may call the HTTP gateway, such as
	// https://ops.example.com (--http-allowed-origins); "*" is any.
	HTTPAllowedOrigins []string
	// PeerAddr is where other nodes connect (--peer-addr). Default
	// 127.0.0.1:7070.
	PeerAddr string
	// PeerAdvertise is the address that other nodes connect to
	// (--peer-advertise). See KafkaListener.Advertise.
	PeerAdvertise string

	// SessionTTL is how long the node's lease in etcd outlives its last
	// renewal: the time after which a lost node counts as gone
	// (--session-ttl). At least 2 s, whole seconds. Default 10 s.
	SessionTTL time.Duration

	// RaftStore is RaftStoreWAL or RaftStoreBoltDB (--raft-store). Default
	// RaftStoreWAL. A data directory stays with the store it was made with.
	RaftStore string
	// WAL is the write-ahead log of all partitions.
	WAL WAL
	// SegmentBytes is the size at which a partition begins a new segment
	// file, unless the topic says otherwise (--segment-bytes). Default 256 MiB.
	SegmentBytes int64

	// CatchUpRate is how many bytes of segments the node sends in a second to
	// followers that are further behind than its write-ahead log reaches back,
	// all of them together (--catchup-rate). Default 100 MiB; -1 (0 for the
	// flag) is no limit, else at least 1 MiB. A follower that would never catch
	// up at that rate is sent twice what is written meanwhile.
	CatchUpRate int64
	// CatchUpConcurrency is how many such followers the node sends to at once
	// (--catchup-concurrency). Default 2, at most 64.
	CatchUpConcurrency int

	// CompactionRate is how many bytes a second the node reads and writes to compact
	// topics, all of them together (--compaction-rate). Default 50 MiB; -1 (0 for
	// the flag) is no limit, else at least 1 MiB.
	CompactionRate int64
	// CompactionMemory bounds what compaction takes to remember keys, in bytes
	// (--compaction-memory). A key takes 32 bytes; if not all keys fit that were
	// written since the last compaction, segments are read several times, and it takes
	// a bit for each of their records on top. Default 128 MiB; at least 1 MiB.
	CompactionMemory int64

	// RebalanceRate is how many bytes a second the node sends, and how many it
	// receives, for replicas that are moved or rebuilt (--rebalance-rate).
	// Default 50 MiB; -1 (0 for the flag) is no limit, else at least 1 MiB.
	RebalanceRate int64
	// RebalanceMoves is how many replicas are moved at a time in the whole
	// cluster, when this node is the winner (--rebalance-moves). Default 8.
	RebalanceMoves int
	// ReplicaRebuildDelay is how long a node may be away before its replicas are
	// rebuilt on others, when this node is the winner (--replica-rebuild-delay).
	// Default 10 min; negative (0 for the flag): never.
	ReplicaRebuildDelay time.Duration
	// DrainTimeout is how long a node that is told to stop waits for its
	// leaderships to be taken over (--drain-timeout). Default 30 s; negative (0
	// for the flag): it does not wait.
	DrainTimeout time.Duration

	// LeaderReturnDelay is how long a node that was restarted serves before it is
	// given leaderships, as long as another can have them (--leader-return-delay).
	// Clients that do not notice that their old connection to it was closed have
	// dropped that by then, and lose no time on it. Default 45 s; negative (0 for
	// the flag): at once.
	LeaderReturnDelay time.Duration

	// ReplicaSelector is where consumers read that name their rack
	// (--replica-selector): ReadLeader or ReadRack. Default ReadLeader, as in Kafka.
	ReplicaSelector string
	// AutoCreateTopics lets a client create a topic by asking for it
	// (--auto-create-topics). Default off.
	AutoCreateTopics bool
	// DefaultPartitions of a topic that is created without a number
	// (--default-partitions). Default 1.
	DefaultPartitions int32
	// DefaultReplicationFactor of a topic that is created without one
	// (--default-replication-factor, 3 there). 0 means 3, or the number of
	// live nodes where there are fewer.
	DefaultReplicationFactor int16
	// MessageMaxBytes is the size of the largest record batch that is taken,
	// unless the topic says otherwise (--message-max-bytes). Default
	// 1,048,588, as in Kafka; at most 64 MiB.
	MessageMaxBytes int32
	// KafkaMaxRequestMemory bounds the bytes of all Kafka clients' requests in
	// flight together (--kafka-max-request-memory). A request waits unread until
	// it fits. Default 512 MiB; at least 1 MiB.
	KafkaMaxRequestMemory int64
	// KafkaMaxResponseMemory bounds the bytes of all responses that clients have
	// not taken yet (--kafka-max-response-memory). Fetches get less as it fills
	// up. Default 512 MiB; at least 1 MiB.
	KafkaMaxResponseMemory int64
	// MetricsTopics is how many topics have metrics of their own (--metrics-topics);
	// those that come later are counted together. Default 100; negative (0 for the
	// flag): none have.
	MetricsTopics int

	// Groups is about consumer groups.
	Groups Groups

	// HeartbeatTimeout is how long raft lets a follower wait for its leader
	// before it stands for election by itself (--heartbeat-timeout). Lost nodes
	// are noticed much earlier (docs/adr/0007). Default 30 s.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for votes
	// (--election-timeout). At least HeartbeatTimeout. Default: as
	// HeartbeatTimeout.
	ElectionTimeout time.Duration
	// LeaderLease is how long a leader leads while the nodes of a majority of its
	// replicas can't be reached (--leader-lease). Default 2 s.
	LeaderLease time.Duration

	// UpkeepInterval is how often a leader looks whether retention, a compaction or a
	// new segment is due. Default 5 s.
	UpkeepInterval time.Duration

	// PprofEnabled serves Go's profiles below /debug/pprof/ on HTTPAddr
	// (--pprof). Default off.
	PprofEnabled bool

	// MinFreeDisk is the space in bytes, in the file system of DataDir, below
	// which the node takes no more records from clients (--min-free-disk).
	// What it follows still needs some: at least WAL.FileSize and a few
	// segments. Negative: none is kept. Default 512 MiB.
	MinFreeDisk int64

	// Secret signs /cluster.json for those who ask with a nonce
	// (--cluster-secret-file). Default: none.
	Secret []byte
	// OtherClusters returns what /cluster.json shows as other_clusters: those of the
	// same name that were heard on the network. It must not block. Default: none.
	OtherClusters func() any
	// EtcdMember returns the name of the member of etcd that runs beside the node; ""
	// for none. It must not block. Default: none.
	EtcdMember func() string

	// Logger hears what the node does. Default: nowhere.
	Logger *slog.Logger
	// LogLevel is the level of Logger, which PUT /log/level changes. Default: it
	// can't be changed.
	LogLevel *slog.LevelVar
	// LogRequests logs each request of a Kafka or HTTP client (--log-requests).
	// Default off.
	LogRequests bool
	// OnDiskFailure is called, at least once, when a write or fsync of the data
	// directory has failed, before anybody else learns of it. A process of
	// which the node is the purpose should end here: an orderly end may wait
	// for the disk that failed. Default: Run ends with the error.
	OnDiskFailure func(error)
	// FS is the file system beneath the data directory. Default: the
	// operating system's.
	FS vfs.FS
	// Dial connects to another node's PeerAdvertise. Default: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Listen takes a port. Default: net.Listen.
	Listen func(network, addr string) (net.Listener, error)
	// Registerer takes the node's metrics; /metrics serves them when it is a
	// prometheus.Gatherer too, as a *prometheus.Registry is. Two nodes of one
	// process need two. Default: a new registry.
	Registerer prometheus.Registerer
	// Clock is the time of day, for records' timestamps and retention.
	// Default: time.Now.
	Clock func() time.Time
}

// Etcd says how to reach etcd.
type Etcd struct {
	// Endpoints are URLs of etcd's members (--etcd-endpoints,
	// ETCDCTL_ENDPOINTS). Default http://127.0.0.1:2379 unless DiscoverySRV
	// is set.
	Endpoints []string
	// CACert is the file with the certificates that etcd's is signed by
	// (--etcd-cacert, ETCDCTL_CACERT).
	CACert string
	// Cert is the file with the certificate to show etcd (--etcd-cert,
	// ETCDCTL_CERT). Needs Key.
	Cert string
	// Key is the file with the key of Cert (--etcd-key, ETCDCTL_KEY).
	Key string
	// User is the name to log in with (--etcd-user, ETCDCTL_USER); NAME:PASSWORD
	// is understood too, as etcdctl does. Never printed with its password.
	User string
	// PasswordFile is the file with the password of User; a newline at its end
	// does not count (--etcd-password-file).
	PasswordFile string
	// Prefix is what the keys of all clusters begin with (--etcd-prefix).
	// Default /raftsman.
	Prefix string
	// FollowMembers keeps the endpoints to what etcd's own list of members says. For
	// an etcd that the nodes run themselves (--discover, --join).
	FollowMembers bool
	// DiscoverySRV is the domain whose SRV records name the endpoints
	// (--etcd-discovery-srv, ETCDCTL_DISCOVERY_SRV). Not with Endpoints.
	DiscoverySRV string
}

// KafkaListener is a port for Kafka clients.
type KafkaListener struct {
	// Name tells listeners apart: a client learns of each node the address
	// of the listener with the name that it came through. Unique on a node.
	Name string
	// Addr is where to listen, HOST:PORT.
	Addr string
	// Advertise is the HOST:PORT that clients are told. Empty is the bound
	// address, or with a wildcard address (0.0.0.0) the same as "auto": this
	// host's first IPv4 address that is not loopback, with the bound port.
	// Port 0 stands for the bound port.
	Advertise string
}

// WAL configures the write-ahead log.
type WAL struct {
	// FileSize is the size of one log file in bytes (--wal-file-size).
	// Default 64 MiB.
	FileSize int64
	// SizeLimit is how large the whole log becomes at most, in bytes, prepared
	// and spare files too (--wal-size-limit). At least eight times FileSize.
	// Default 1 GiB.
	SizeLimit int64
}

// Groups configures consumer groups. Kafka's names are in brackets.
type Groups struct {
	// TopicPartitions is how many partitions __consumer_offsets gets when it is
	// made, which is when the first group asks for its coordinator
	// (--offsets-topic-partitions) [offsets.topic.num.partitions]. Default 50.
	TopicPartitions int32
	// TopicReplicationFactor is its number of replicas
	// (--offsets-topic-replication-factor) [offsets.topic.replication.factor]. 0
	// means 3, or the number of nodes where there are fewer.
	TopicReplicationFactor int16
	// MinSessionTimeout is the shortest session timeout that a member may ask for
	// (--group-min-session-timeout) [group.min.session.timeout.ms]. Default 6 s.
	MinSessionTimeout time.Duration
	// MaxSessionTimeout is the longest (--group-max-session-timeout)
	// [group.max.session.timeout.ms]. Default 30 min.
	MaxSessionTimeout time.Duration
	// InitialRebalanceDelay is how long the first rebalance of an empty group
	// waits for more members (--group-initial-rebalance-delay)
	// [group.initial.rebalance.delay.ms]. Default 3 s; negative (0 for the flag):
	// it does not wait.
	InitialRebalanceDelay time.Duration
	// MaxSize is how many members a group may have (--group-max-size)
	// [group.max.size]. Default 2,147,483,647.
	MaxSize int
	// OffsetsRetention is how long committed offsets outlive the use of their
	// group (--offsets-retention) [offsets.retention.minutes]. Default 7 days;
	// negative (0 for the flag): for ever.
	OffsetsRetention time.Duration
	// OffsetsRetentionCheck is how often offsets are looked at for expiry
	// (--offsets-retention-check-interval)
	// [offsets.retention.check.interval.ms]. Default 10 min.
	OffsetsRetentionCheck time.Duration
	// MaxOffsetMetadata is how many bytes of metadata a committed offset may have
	// (--offset-metadata-max-bytes) [offset.metadata.max.bytes]. Default 4096.
	MaxOffsetMetadata int
}

// DefaultListener is the name of the listener that --kafka-addr makes.
const DefaultListener = "default"

func (c *Config) setDefaults() {
	or(&c.Cluster, "default")
	or(&c.Version, "dev")
	or(&c.Etcd.Prefix, "/raftsman")
	if len(c.Etcd.Endpoints) == 0 && c.Etcd.DiscoverySRV == "" {
		c.Etcd.Endpoints = []string{"http://127.0.0.1:2379"}
	}
	if len(c.Listeners) == 0 {
		c.Listeners = []KafkaListener{{Name: DefaultListener, Addr: "127.0.0.1:9092"}}
	}
	or(&c.HTTPAddr, "127.0.0.1:8080")
	or(&c.HTTPMaxRequestBytes, 4<<20)
	or(&c.HTTPMaxRequests, 256)
	or(&c.PeerAddr, "127.0.0.1:7070")
	or(&c.SessionTTL, 10*time.Second)
	or(&c.RaftStore, RaftStoreWAL)
	or(&c.WAL.FileSize, 64<<20)
	or(&c.WAL.SizeLimit, 1<<30)
	or(&c.SegmentBytes, 256<<20)
	or(&c.MinFreeDisk, 512<<20)
	or(&c.CatchUpRate, 100<<20)
	or(&c.CatchUpConcurrency, 2)
	or(&c.CompactionRate, 50<<20)
	or(&c.CompactionMemory, 128<<20)
	or(&c.RebalanceRate, 50<<20)
	or(&c.RebalanceMoves, 8)
	or(&c.ReplicaRebuildDelay, 10*time.Minute)
	or(&c.LeaderReturnDelay, 45*time.Second)
	or(&c.DrainTimeout, 30*time.Second)
	or(&c.ReplicaSelector, ReadLeader)
	or(&c.DefaultPartitions, 1)
	or(&c.MessageMaxBytes, 1<<20+12)
	or(&c.KafkaMaxRequestMemory, 512<<20)
	or(&c.KafkaMaxResponseMemory, 512<<20)
	or(&c.MetricsTopics, 100)
	or(&c.Groups.TopicPartitions, 50)
	or(&c.HeartbeatTimeout, 30*time.Second)
	or(&c.ElectionTimeout, c.HeartbeatTimeout)
	or(&c.LeaderLease, 2*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.FS == nil {
		c.FS = vfs.OS
	}
	if c.Dial == nil {
		var d net.Dialer
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	if c.Listen == nil {
		c.Listen = net.Listen
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
}

func or[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}
