package node

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	legalName       = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	maxMessageBytes = 64 << 20
	minSegmentBytes = 1 << 14
	minWALFileSize  = 1 << 20
	minCatchUpRate  = 1 << 20
)

// ConfigError says that a configuration can't be used: New has done nothing.
type ConfigError struct {
	// Problems has a *Problem for each field; it is not empty.
	Problems []error
}

func (e *ConfigError) Error() string { return errors.Join(e.Problems...).Error() }

// Unwrap returns the problems.
func (e *ConfigError) Unwrap() []error { return e.Problems }

// Problem is a field that can't be used.
type Problem struct {
	Flag   string // the flag that sets it, with its dashes
	Value  string
	Remedy string
}

func (p *Problem) Error() string { return fmt.Sprintf("%s %q: %s", p.Flag, p.Value, p.Remedy) }

// problems collects what is wrong with a configuration.
type problems []error

func (p *problems) add(flag string, value any, remedy string, args ...any) {
	*p = append(*p, &Problem{flag, fmt.Sprint(value), fmt.Sprintf(remedy, args...)})
}

// Validate says of each field that can't be used its flag, its value and what
// to do, all in one *ConfigError. Zero values stand for their defaults.
func (c Config) Validate() error {
	c.setDefaults()
	var p problems
	if c.NodeID < 0 {
		p.add("--node-id", c.NodeID, "use a positive number, or 0 to get one from etcd")
	}
	if c.DataDir == "" {
		p.add("--data-dir", "", "name the directory for this node's data")
	}
	if len(c.Cluster) > 249 || strings.Trim(c.Cluster, legalName) != "" || c.Cluster == "." || c.Cluster == ".." {
		p.add("--cluster", c.Cluster, "use up to 249 letters, digits, '.', '_' and '-'")
	}
	c.Etcd.validate(&p)
	c.validateAddresses(&p)
	c.validateTopics(&p)
	c.validateRaft(&p)
	c.Groups.validate(&p)
	if len(p) > 0 {
		return &ConfigError{p}
	}
	return nil
}

func (e *Etcd) validate(p *problems) {
	if len(e.Endpoints) > 0 && e.DiscoverySRV != "" {
		p.add("--etcd-discovery-srv", e.DiscoverySRV, "give either this or --etcd-endpoints")
	}
	for _, ep := range e.Endpoints {
		if err := checkEndpoint(ep); err != nil {
			p.add("--etcd-endpoints", withoutPassword(ep), "%v", err)
		}
	}
	if (e.Cert == "") != (e.Key == "") {
		p.add("--etcd-cert", e.Cert, "give --etcd-cert and --etcd-key together")
	}
	for _, f := range []struct{ flag, name string }{
		{"--etcd-cacert", e.CACert}, {"--etcd-cert", e.Cert}, {"--etcd-key", e.Key}, {"--etcd-password-file", e.PasswordFile},
	} {
		if f.name == "" {
			continue
		}
		if _, err := os.Stat(f.name); err != nil {
			p.add(f.flag, f.name, "name a file that this process can read (%v)", err)
		}
	}
	user, password, _ := strings.Cut(e.User, ":")
	if e.PasswordFile != "" && user == "" {
		p.add("--etcd-password-file", e.PasswordFile, "give --etcd-user too")
	}
	if e.PasswordFile != "" && password != "" {
		p.add("--etcd-password-file", e.PasswordFile, "--etcd-user has a password already: give one of them")
	}
	if !strings.HasPrefix(e.Prefix, "/") || strings.Trim(e.Prefix, "/") == "" {
		p.add("--etcd-prefix", e.Prefix, "begin with a slash and name something below it, as /raftsman does")
	}
}

// withoutPassword is an endpoint as it may be shown.
func withoutPassword(ep string) string {
	scheme, rest, _ := strings.Cut(ep, "://")
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		return scheme + "://***" + rest[at:]
	}
	return ep
}

// checkEndpoint takes http://HOST:PORT, https://HOST:PORT, unix sockets, and
// HOST:PORT as etcdctl does.
func checkEndpoint(ep string) error {
	if !strings.Contains(ep, "://") {
		return checkAddr(ep)
	}
	u, err := url.Parse(ep)
	if err != nil {
		return errors.New("it is no URL; use http://HOST:PORT or https://HOST:PORT")
	}
	switch {
	case u.User != nil:
		return errors.New("a password does not belong here; use --etcd-user and --etcd-password-file")
	case u.Scheme == "unix" || u.Scheme == "unixs":
		return nil
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("use http://HOST:PORT or https://HOST:PORT")
	}
	return checkAddr(u.Host)
}

func (c *Config) validateAddresses(p *problems) {
	names := make(map[string]bool)
	for _, l := range c.Listeners {
		if l.Name == "" || strings.Trim(l.Name, legalName) != "" {
			p.add("--kafka-listener", l.Name, "name it with letters, digits, '.', '_' and '-', as in inside=0.0.0.0:9092")
		}
		if names[l.Name] {
			p.add("--kafka-listener", l.Name, "two listeners have this name: give each its own")
		}
		names[l.Name] = true
		flag := "--kafka-listener " + l.Name
		if l.Name == DefaultListener {
			flag = "--kafka-addr"
		}
		addr(p, flag, l.Addr)
		advertise(p, strings.Replace(flag, "-addr", "-advertise", 1), l.Advertise)
	}
	if c.KafkaGatewayAddr != "" {
		addr(p, "--kafka-gateway-addr", c.KafkaGatewayAddr)
	}
	advertise(p, "--kafka-gateway-advertise", c.KafkaGatewayAdvertise)
	addr(p, "--http-addr", c.HTTPAddr)
	advertise(p, "--http-advertise", c.HTTPAdvertise)
	c.validateHTTP(p)
	addr(p, "--peer-addr", c.PeerAddr)
	advertise(p, "--peer-advertise", c.PeerAdvertise)
}

func (c *Config) validateHTTP(p *problems) {
	if c.HTTPMaxRequestBytes < 1<<10 || c.HTTPMaxRequestBytes > maxMessageBytes {
		p.add("--http-max-request-bytes", c.HTTPMaxRequestBytes, "use 1024 to %d", maxMessageBytes)
	}
	if c.HTTPMaxRequests < 1 || c.HTTPMaxRequests > 1<<16 {
		p.add("--http-max-requests", c.HTTPMaxRequests, "use 1 to %d", 1<<16)
	}
	for _, host := range c.HTTPAllowedHosts {
		if host == "" || strings.ContainsAny(host, "/: ") {
			p.add("--http-allowed-hosts", host, "use names without scheme or port, such as logs.example.com, or *")
		}
	}
	for _, origin := range c.HTTPAllowedOrigins {
		if u, err := url.Parse(origin); origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin) {
			p.add("--http-allowed-origins", origin, "use scheme and host as browsers send them, such as https://ops.example.com, or *")
		}
	}
}

func addr(p *problems, flag, value string) {
	if err := checkAddr(value); err != nil {
		p.add(flag, value, "%v", err)
	}
}

func advertise(p *problems, flag, value string) {
	if value == "" || value == "auto" {
		return
	}
	if err := checkAddr(value); err != nil {
		p.add(flag, value, "%v, or auto", err)
		return
	}
	host, _, _ := net.SplitHostPort(value)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		p.add(flag, value, "nobody can connect to it; use an address that clients reach, or auto")
	}
}

func checkAddr(value string) error {
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		return errors.New("use HOST:PORT")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q must be a number up to 65535; use HOST:PORT", port)
	}
	return nil
}

func (c *Config) validateTopics(p *problems) {
	if c.SegmentBytes < minSegmentBytes || c.SegmentBytes > 1<<31-1 {
		p.add("--segment-bytes", c.SegmentBytes, "use %d to %d", minSegmentBytes, 1<<31-1)
	}
	if c.DefaultPartitions < 1 || c.DefaultPartitions > 10_000 {
		p.add("--default-partitions", c.DefaultPartitions, "use 1 to 10000")
	}
	if c.DefaultReplicationFactor < 0 || c.DefaultReplicationFactor > 9 {
		p.add("--default-replication-factor", c.DefaultReplicationFactor, "use 1 to 9, or 0 for 3 where there are as many nodes")
	}
	if c.MessageMaxBytes < 1 || c.MessageMaxBytes > maxMessageBytes {
		p.add("--message-max-bytes", c.MessageMaxBytes, "use 1 to %d", maxMessageBytes)
	}
	if c.KafkaMaxRequestMemory < 1<<20 {
		p.add("--kafka-max-request-memory", c.KafkaMaxRequestMemory, "use %d (1 MiB) or more", 1<<20)
	}
	if c.KafkaMaxResponseMemory < 1<<20 {
		p.add("--kafka-max-response-memory", c.KafkaMaxResponseMemory, "use %d (1 MiB) or more", 1<<20)
	}
}

func (c *Config) validateRaft(p *problems) {
	if c.SessionTTL < 2*time.Second || c.SessionTTL%time.Second != 0 {
		p.add("--session-ttl", c.SessionTTL, "use whole seconds, 2s or more: etcd counts leases in seconds")
	}
	if c.RaftStore != RaftStoreWAL && c.RaftStore != RaftStoreBoltDB {
		p.add("--raft-store", c.RaftStore, "use %s or %s", RaftStoreWAL, RaftStoreBoltDB)
	}
	if c.ReplicaSelector != ReadLeader && c.ReplicaSelector != ReadRack {
		p.add("--replica-selector", c.ReplicaSelector, "use %s or %s", ReadLeader, ReadRack)
	}
	if c.WAL.FileSize < minWALFileSize || c.WAL.FileSize > 1<<31-1 {
		p.add("--wal-file-size", c.WAL.FileSize, "use %d to %d", minWALFileSize, 1<<31-1)
	}
	if c.WAL.SizeLimit < 8*c.WAL.FileSize {
		p.add("--wal-size-limit", c.WAL.SizeLimit, "use at least eight times --wal-file-size, which is %d", c.WAL.FileSize)
	}
	if c.CatchUpRate != -1 && c.CatchUpRate < minCatchUpRate {
		p.add("--catchup-rate", c.CatchUpRate, "use %d bytes per second or more, or 0 for no limit", minCatchUpRate)
	}
	if c.CatchUpConcurrency < 1 || c.CatchUpConcurrency > 64 {
		p.add("--catchup-concurrency", c.CatchUpConcurrency, "use 1 to 64")
	}
	if c.CompactionRate != -1 && c.CompactionRate < minCatchUpRate {
		p.add("--compaction-rate", c.CompactionRate, "use %d bytes per second or more, or 0 for no limit", minCatchUpRate)
	}
	if c.CompactionMemory < 1<<20 {
		p.add("--compaction-memory", c.CompactionMemory, "use %d or more", 1<<20)
	}
	if c.RebalanceRate != -1 && c.RebalanceRate < minCatchUpRate {
		p.add("--rebalance-rate", c.RebalanceRate, "use %d bytes per second or more, or 0 for no limit", minCatchUpRate)
	}
	if c.RebalanceMoves < 1 || c.RebalanceMoves > 10000 {
		p.add("--rebalance-moves", c.RebalanceMoves, "use 1 to 10000")
	}
	if c.HeartbeatTimeout < 2*time.Second {
		p.add("--heartbeat-timeout", c.HeartbeatTimeout, "use 2s or more: lost nodes are noticed earlier whatever it is")
	}
	if c.ElectionTimeout < c.HeartbeatTimeout {
		p.add("--election-timeout", c.ElectionTimeout, "use at least --heartbeat-timeout, which is %v", c.HeartbeatTimeout)
	}
	if c.LeaderLease < 50*time.Millisecond || c.LeaderLease > time.Minute {
		p.add("--leader-lease", c.LeaderLease, "use 50ms to 1m")
	}
}
