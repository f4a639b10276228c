package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/vfs"
)

// FS is the file system that a host keeps its stores on. Leave it nil for the
// operating system's.
type FS = vfs.FS

// Resolver tells where replicas and nodes are. Its answers may change at any
// time; it must not block.
type Resolver interface {
	// NodeOf returns the node that holds a replica.
	NodeOf(replica uint64) (node int32, ok bool)
	// PeerAddr returns where a node listens for its peers.
	PeerAddr(node int32) (addr string, ok bool)
	// Peers returns all nodes to keep connections to.
	Peers() []int32
}

// Names of the stores that Config.Store takes.
const (
	StoreWAL    = "wal"    // one shared write-ahead log, one fsync for all groups
	StoreBoltDB = "boltdb" // a raft-boltdb file per group: simple, for one or a few groups
)

// Config of a Host. The zero value of a field stands for its default.
type Config struct {
	// Dir is the data directory. The host keeps wal/, manifests/ and boltdb/ in it.
	Dir string
	// ClusterID, NodeID (> 0) and Incarnation identify the data directory; every
	// store file carries them and a mismatch is refused.
	ClusterID   string
	NodeID      int32
	Incarnation string
	// Store is StoreBoltDB (the default of an embedded host) or StoreWAL.
	Store string
	// Listener accepts the peers' connections. The host closes it.
	Listener net.Listener
	// Dial opens a connection to a peer; nil is TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Resolver is asked for replicas and nodes.
	Resolver Resolver

	// HeartbeatTimeout is how long a follower waits for its leader before it
	// stands for election by itself (default 1.5 s). Lost connections and lost
	// pings are acted on much earlier.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for votes (default HeartbeatTimeout).
	ElectionTimeout time.Duration
	// LeaderLease is how long a leader leads without hearing from a majority
	// (default HeartbeatTimeout, at most that). It must exceed the worst fsync.
	LeaderLease time.Duration
	// CommitTimeout is the pause after which an idle leader tells its followers
	// the commit index (default 100 ms).
	CommitTimeout time.Duration
	// PingInterval and PingTimeout are between nodes (default 150 ms and 1 s).
	PingInterval time.Duration
	PingTimeout  time.Duration

	// SnapshotBytes is the size of a group's live log above which a snapshot is
	// taken, so that the log can be released (default 64 MiB).
	SnapshotBytes int64
	// TrailingBytes of the log are kept behind a snapshot for followers that
	// are a little behind (default 16 MiB).
	TrailingBytes int64
	// WALFileSize and WALSizeLimit are those of the write-ahead log, in bytes
	// (default 64 MiB and 1 GiB).
	WALFileSize  int64
	WALSizeLimit int64

	// OnFatal is called once when the log can't be written any more. What is
	// acknowledged is safe; the process should end.
	OnFatal func(error)

	FS         FS
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HeartbeatTimeout, 1500*time.Millisecond)
	def(&c.ElectionTimeout, c.HeartbeatTimeout)
	def(&c.LeaderLease, c.HeartbeatTimeout)
	def(&c.CommitTimeout, 100*time.Millisecond)
	def(&c.PingInterval, 150*time.Millisecond)
	def(&c.PingTimeout, time.Second)
	if c.Store == "" {
		c.Store = StoreBoltDB
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = 64 << 20
	}
	if c.TrailingBytes == 0 {
		c.TrailingBytes = 16 << 20
	}
	if c.WALFileSize == 0 {
		c.WALFileSize = 64 << 20
	}
	if c.WALSizeLimit == 0 {
		c.WALSizeLimit = 1 << 30
	}
	if c.FS == nil {
		c.FS = vfs.OS
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnFatal == nil {
		c.OnFatal = func(error) {}
	}
}

// Validate says which field is wrong and what it may be.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Dir == "" {
		bad("Dir is empty: name a data directory")
	}
	if c.ClusterID == "" || c.NodeID <= 0 || c.Incarnation == "" {
		bad("ClusterID %q, NodeID %d, Incarnation %q: all three must be set, NodeID above 0", c.ClusterID, c.NodeID, c.Incarnation)
	}
	if c.Listener == nil || c.Resolver == nil {
		bad("Listener and Resolver must be set")
	}
	if c.Store != "" && c.Store != StoreWAL && c.Store != StoreBoltDB {
		bad("Store %q: must be %q or %q", c.Store, StoreWAL, StoreBoltDB)
	}
	if c.HeartbeatTimeout != 0 && c.LeaderLease > c.HeartbeatTimeout {
		bad("LeaderLease %v: must be at most HeartbeatTimeout %v", c.LeaderLease, c.HeartbeatTimeout)
	}
	return errors.Join(errs...)
}
