package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/raftsman/raftsman/pkg/node"
)

// nodeFlags are the settings of a node, bound to flags.
type nodeFlags struct {
	cfg            node.Config
	kafkaAddr      string
	kafkaAdvertise string
	listeners      []string
	logLevel       string
	logFormat      string
	configFile     string
	catchUpRate    int64
	compactionRate int64
	rebalanceRate  int64
	rebuildDelay   time.Duration
	drainTimeout   time.Duration
	leaderReturn   time.Duration
	initialDelay   time.Duration
	retention      time.Duration
	way            wayFlags
	reload         func() error // reads the settings again
}

func (n *nodeFlags) bind(f *pflag.FlagSet) {
	c := &n.cfg
	f.StringVar(&n.configFile, "config", defaultConfigFile, "YAML file with settings by flag name")
	f.Int32Var(&c.NodeID, "node-id", 0, "this node's id and Kafka broker id; 0 keeps the data directory's, or has etcd hand one out")
	f.StringVar(&c.DataDir, "data-dir", "", "directory for this node's data (required)")
	f.StringVar(&c.Cluster, "cluster", "default", "name of the cluster, part of its keys in etcd")
	f.StringVar(&c.Rack, "rack", "", "failure domain; replicas are spread over racks first")
	f.StringSliceVar(&c.Etcd.Endpoints, "etcd-endpoints", []string{"http://127.0.0.1:2379"}, "etcd's client URLs")
	f.StringVar(&c.Etcd.DiscoverySRV, "etcd-discovery-srv", "", "domain whose SRV records name etcd, instead of endpoints")
	f.StringVar(&c.Etcd.Prefix, "etcd-prefix", "/raftsman", "prefix of all keys in etcd")
	f.StringVar(&c.Etcd.CACert, "etcd-cacert", "", "CA certificate that verifies etcd, PEM file")
	f.StringVar(&c.Etcd.Cert, "etcd-cert", "", "client certificate for etcd, PEM file")
	f.StringVar(&c.Etcd.Key, "etcd-key", "", "key of the client certificate, PEM file")
	f.StringVar(&c.Etcd.User, "etcd-user", "", "etcd user, as NAME or NAME:PASSWORD")
	f.StringVar(&c.Etcd.PasswordFile, "etcd-password-file", "", "file with the etcd user's password")
	f.StringVar(&n.kafkaAddr, "kafka-addr", "127.0.0.1:9092", "address to serve the Kafka protocol on")
	f.StringVar(&n.kafkaAdvertise, "kafka-advertise", "", "address that Kafka clients are told; auto is this host's first address that is not loopback (default: the bound one)")
	f.StringArrayVar(&n.listeners, "kafka-listener", nil, "further Kafka listener, NAME=ADDR[,advertise=ADDR]; may be repeated")
	f.StringVar(&c.KafkaGatewayAddr, "kafka-gateway-addr", "", "address to serve the Kafka protocol on as the only broker of the cluster, for clients that reach one address only (default: none)")
	f.StringVar(&c.KafkaGatewayAdvertise, "kafka-gateway-advertise", "", "address that clients of --kafka-gateway-addr are told (default: the bound one)")
	f.StringVar(&c.HTTPAddr, "http-addr", "127.0.0.1:8080", "address to serve HTTP on: health, metrics, gateway")
	f.StringVar(&c.HTTPAdvertise, "http-advertise", "", "HTTP address that others are told (default: the bound one)")
	f.IntVar(&c.HTTPMaxRequestBytes, "http-max-request-bytes", 4<<20, "bytes of a request to the HTTP gateway, without compression")
	f.IntVar(&c.HTTPMaxRequests, "http-max-requests", 256, "requests to the HTTP gateway that are answered at once, and as many streams beside them; further ones are refused")
	f.StringSliceVar(&c.HTTPAllowedHosts, "http-allowed-hosts", nil, "names by which the HTTP gateway may be called, besides addresses, localhost and the node's own; * is any")
	f.StringSliceVar(&c.HTTPAllowedOrigins, "http-allowed-origins", nil, "web pages elsewhere that may call the HTTP gateway, such as https://ops.example.com; * is any")
	f.StringVar(&c.PeerAddr, "peer-addr", "127.0.0.1:7070", "address to serve other nodes on")
	f.StringVar(&c.PeerAdvertise, "peer-advertise", "", "address that other nodes are told (default: the bound one)")
	f.DurationVar(&c.SessionTTL, "session-ttl", 10*time.Second, "life of the node's lease in etcd without a renewal")
	f.StringVar(&c.RaftStore, "raft-store", "wal", "wal: one write-ahead log for all partitions; boltdb: a raft-boltdb file for each")
	f.Int64Var(&c.WAL.FileSize, "wal-file-size", 64<<20, "bytes of one file of the write-ahead log")
	f.Int64Var(&c.WAL.SizeLimit, "wal-size-limit", 1<<30, "bytes that the write-ahead log is kept within")
	f.Int64Var(&c.MinFreeDisk, "min-free-disk", 512<<20, "bytes free on the data directory's disk below which no records are taken from clients; negative: no limit")
	f.Int64Var(&c.SegmentBytes, "segment-bytes", 256<<20, "default segment.bytes of topics")
	f.Int64Var(&n.catchUpRate, "catchup-rate", 100<<20, "bytes of segments sent in a second to followers that are too far behind, all together; 0: no limit")
	f.IntVar(&c.CatchUpConcurrency, "catchup-concurrency", 2, "followers that segments are sent to at once")
	f.Int64Var(&n.compactionRate, "compaction-rate", 50<<20, "bytes a second that are read and written to compact topics, all together; 0: no limit")
	f.Int64Var(&c.CompactionMemory, "compaction-memory", 128<<20, "bytes that compaction takes to remember keys")
	f.Int64Var(&n.rebalanceRate, "rebalance-rate", 50<<20, "bytes a second that the node sends, and that it receives, for replicas that are moved or rebuilt; 0: no limit")
	f.IntVar(&c.RebalanceMoves, "rebalance-moves", 8, "replicas that the winner moves at a time, in the whole cluster")
	f.DurationVar(&n.rebuildDelay, "replica-rebuild-delay", 10*time.Minute, "how long a node may be away before the winner rebuilds its replicas elsewhere; 0: never")
	f.DurationVar(&n.drainTimeout, "drain-timeout", 30*time.Second, "how long a node that stops waits for others to take over what it leads; 0: it does not wait")
	f.DurationVar(&n.leaderReturn, "leader-return-delay", 45*time.Second, "how long a restarted node serves before leaderships return to it, when clients have dropped their old connections; 0: at once")
	f.StringVar(&c.ReplicaSelector, "replica-selector", node.ReadLeader, "where consumers that name their rack (client.rack) read: leader, or rack-aware: from an in-sync replica in that rack")
	f.BoolVar(&c.AutoCreateTopics, "auto-create-topics", true, "create a topic when a client asks for one that does not exist, as Kafka does")
	f.Int32Var(&c.DefaultPartitions, "default-partitions", 1, "partitions of a topic created without a number")
	f.Int16Var(&c.DefaultReplicationFactor, "default-replication-factor", 0, "replicas of a topic created without a number; 0: three, or as many as there are nodes")
	f.Int32Var(&c.MessageMaxBytes, "message-max-bytes", 1_048_588, "default max.message.bytes of topics")
	f.Int64Var(&c.KafkaMaxRequestMemory, "kafka-max-request-memory", 512<<20, "bytes of all Kafka requests in flight; a request waits unread until it fits")
	f.Int64Var(&c.KafkaMaxResponseMemory, "kafka-max-response-memory", 512<<20, "bytes of all Kafka responses that clients have not taken yet; fetches get less as it fills up")
	f.IntVar(&c.MetricsTopics, "metrics-topics", 100, "topics that have metrics of their own, the first to come; the others are counted together; 0: none have")
	n.bindGroups(f)
	n.way.bind(f)
	f.DurationVar(&c.HeartbeatTimeout, "heartbeat-timeout", 30*time.Second, "how long a replica waits for its leader before raft lets it stand for election by itself; lost nodes are noticed much earlier")
	f.DurationVar(&c.ElectionTimeout, "election-timeout", 0, "how long a candidate waits for votes; 0: as heartbeat-timeout")
	f.DurationVar(&c.LeaderLease, "leader-lease", 2*time.Second, "how long a leader leads while the nodes of a majority of its replicas can't be reached")
	f.BoolVar(&c.PprofEnabled, "pprof", false, "serve /debug/pprof/ on the HTTP address")
	n.bindLog(f)
}

// bindGroups binds the settings of consumer groups. Kafka's names are in the help.
func (n *nodeFlags) bindGroups(f *pflag.FlagSet) {
	g := &n.cfg.Groups
	f.Int32Var(&g.TopicPartitions, "offsets-topic-partitions", 50, "partitions of __consumer_offsets when it is made (offsets.topic.num.partitions)")
	f.Int16Var(&g.TopicReplicationFactor, "offsets-topic-replication-factor", 0, "replicas of __consumer_offsets when it is made (offsets.topic.replication.factor); 0: three, or as many as there are nodes")
	f.DurationVar(&g.MinSessionTimeout, "group-min-session-timeout", 6*time.Second, "shortest session timeout that a group's member may ask for (group.min.session.timeout.ms)")
	f.DurationVar(&g.MaxSessionTimeout, "group-max-session-timeout", 30*time.Minute, "longest session timeout that a group's member may ask for (group.max.session.timeout.ms)")
	f.DurationVar(&n.initialDelay, "group-initial-rebalance-delay", 3*time.Second, "how long the first rebalance of an empty group waits for more members (group.initial.rebalance.delay.ms); 0: it does not wait")
	f.IntVar(&g.MaxSize, "group-max-size", math.MaxInt32, "members that a group may have (group.max.size)")
	f.DurationVar(&n.retention, "offsets-retention", 7*24*time.Hour, "how long committed offsets outlive the use of their group (offsets.retention.minutes); 0: for ever")
	f.DurationVar(&g.OffsetsRetentionCheck, "offsets-retention-check-interval", 10*time.Minute, "how often offsets are looked at for expiry (offsets.retention.check.interval.ms)")
	f.IntVar(&g.MaxOffsetMetadata, "offset-metadata-max-bytes", 4096, "bytes of metadata that a committed offset may have (offset.metadata.max.bytes)")
}

func (n *nodeFlags) bindLog(f *pflag.FlagSet) {
	f.StringVar(&n.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&n.logFormat, "log-format", "text", "text or json")
	f.BoolVar(&n.cfg.LogRequests, "log-requests", false, "log each request of a Kafka or HTTP client")
}

// load layers the settings and fills in the configuration.
func (n *nodeFlags) load(cmd *cobra.Command) (origins, error) {
	file, explicit := n.configFile, cmd.Flags().Changed("config")
	if env := os.Getenv("RAFTSMAN_CONFIG"); env != "" && !explicit {
		file, explicit = env, true
	}
	from, err := layer(cmd, file, explicit, "config", "output")
	if err != nil {
		return nil, err
	}
	n.chooseEtcd(from)
	if err := n.way.check(from); err != nil {
		return nil, usageError{err}
	}
	n.cfg.Listeners = []node.KafkaListener{{Name: "default", Addr: n.kafkaAddr, Advertise: n.kafkaAdvertise}}
	for _, text := range n.listeners {
		l, err := parseListener(text)
		if err != nil {
			return nil, usageError{err}
		}
		n.cfg.Listeners = append(n.cfg.Listeners, l)
	}
	n.cfg.CatchUpRate = orMinusOne(n.catchUpRate)
	n.cfg.CompactionRate = orMinusOne(n.compactionRate)
	n.cfg.RebalanceRate = orMinusOne(n.rebalanceRate)
	n.cfg.ReplicaRebuildDelay = orMinusOne(n.rebuildDelay)
	n.cfg.DrainTimeout = orMinusOne(n.drainTimeout)
	n.cfg.MetricsTopics = orMinusOne(n.cfg.MetricsTopics)
	n.cfg.LeaderReturnDelay = orMinusOne(n.leaderReturn)
	n.cfg.Groups.InitialRebalanceDelay = orMinusOne(n.initialDelay)
	n.cfg.Groups.OffsetsRetention = orMinusOne(n.retention)
	n.cfg.Version = version()
	n.cfg.Logger, err = newLogger(os.Stderr, n.logLevel, n.logFormat)
	if err != nil {
		return nil, usageError{err}
	}
	return from, nil
}

// orMinusOne turns a flag's 0, which is "none", into the configuration's.
func orMinusOne[T ~int | ~int64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// chooseEtcd settles what etcdctl's variables leave open. Endpoints and a domain
// to find them by exclude each other: what was set for raftsman goes before
// etcdctl's, and of etcdctl's the domain, as there. Its password goes with
// whatever user there is.
func (n *nodeFlags) chooseEtcd(from origins) {
	e := &n.cfg.Etcd
	borrowed := func(name string) bool { return from[name] == "environment "+fallbacks[name] }
	if e.DiscoverySRV != "" {
		if from["etcd-endpoints"] == "default" || borrowed("etcd-endpoints") {
			e.Endpoints = nil
		} else if borrowed("etcd-discovery-srv") {
			e.DiscoverySRV = ""
		}
	}
	password := os.Getenv("ETCDCTL_PASSWORD")
	if password != "" && e.User != "" && e.PasswordFile == "" && !strings.Contains(e.User, ":") {
		e.User += ":" + password
	}
}

func parseListener(text string) (l node.KafkaListener, err error) {
	name, rest, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return l, fmt.Errorf("--kafka-listener %q: want NAME=ADDR[,advertise=ADDR]", text)
	}
	l.Name = name
	l.Addr, rest, _ = strings.Cut(rest, ",")
	if rest != "" {
		if l.Advertise, ok = strings.CutPrefix(rest, "advertise="); !ok {
			return l, fmt.Errorf("--kafka-listener %q: %q is not advertise=ADDR", text, rest)
		}
	}
	return l, nil
}

func newServe() *cobra.Command {
	var flags nodeFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Example: `  raftsman serve --node-id 1 --data-dir /var/lib/raftsman \
    --etcd-endpoints http://10.0.0.1:2379,http://10.0.0.2:2379,http://10.0.0.3:2379 \
    --kafka-addr 0.0.0.0:9092 --kafka-advertise auto --peer-addr 0.0.0.0:7070 --http-addr 0.0.0.0:8080
  raftsman serve --data-dir /var/lib/raftsman --discover --bootstrap   # the same on three machines: a cluster, etcd included
  raftsman serve --data-dir /var/lib/raftsman --join 10.0.0.2:8080     # one more node`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := flags.load(cmd)
			if err != nil {
				return err
			}
			observe(&flags.cfg)
			flags.cfg.OnDiskFailure = endNow
			flags.reload = flags.reloader(cmd, from)
			if flags.way.used(from, flags.cfg.DataDir) {
				return explain(flags.serveFound(cmd.Context(), from), from)
			}
			return explain(flags.serve(cmd.Context(), func(*node.Node) {}), from)
		},
	}
	flags.bind(cmd.Flags())
	return cmd
}

// endNow ends the process as a crash would, which is what everything is made to
// survive: waiting for a disk that failed could take for ever, and the other
// nodes take over as soon as the connections break.
func endNow(err error) {
	fmt.Fprintln(os.Stderr, "raftsman: this node's disk failed, it ends at once; replace or mend the disk before it is started again:", err)
	os.Exit(1)
}

// serve runs a node until ctx ends. started gets it before it runs.
func (f *nodeFlags) serve(ctx context.Context, started func(*node.Node)) error {
	n, err := node.New(f.cfg)
	if err != nil {
		var invalid *node.ConfigError
		if errors.As(err, &invalid) {
			return usageError{err}
		}
		return err
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(again)
	ended := make(chan struct{})
	defer close(ended)
	go hurry(ctx, again, ended, n.Hurry)
	defer supervise(ctx, n, f.reload, f.cfg.Logger)()
	started(n)
	return n.Run(ctx)
}

// hurry calls f at the second signal. The first one has ended ctx, perhaps
// before anybody listened here.
func hurry(ctx context.Context, signals <-chan os.Signal, ended <-chan struct{}, f func()) {
	n := 0
	if ctx.Err() != nil {
		n = 1
	}
	for ; n < 2; n++ {
		select {
		case <-signals:
		case <-ended:
			return
		}
	}
	f()
}
