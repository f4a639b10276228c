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

	// HeartbeatTimeout is how long raft lets a follower wait for its leader before
	// it stands for election by itself (default 30 s). It is the net beneath:
	// lost nodes are noticed by their connections and pings, and a group without a
	// leader elects one within milliseconds (failover.go).
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for votes (default HeartbeatTimeout).
	ElectionTimeout time.Duration
	// LeaderLease is how long a leader leads while the nodes of a majority of its
	// group can't be reached (default 2 s).
	LeaderLease time.Duration
	// CommitTimeout is the pause after which raft's idle leader repeats the commit
	// index to its followers (default 60 s). They were told by then (tend.go).
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

	// CatchUpRate is how many bytes of segments this node sends in a second to
	// followers that are too far behind for the log, all of them together
	// (default 100 MiB; negative: unlimited).
	CatchUpRate int64
	// MoveRate is how many bytes this node sends in a second, and how many it
	// receives, to bring new replicas up, all of them together: learners that a
	// Target asks for (default 50 MiB; negative: unlimited). What is written while
	// they are nearly there is not counted.
	MoveRate int64
	// CatchUps is how many followers are sent segments at once (default 2).
	CatchUps int
	// CatchUpPinTime and CatchUpPinBytes bound how long segments are pinned for
	// a follower, and how many bytes of them that are obsolete otherwise; after
	// that it goes on with the newest ones (default 15 min and 4 GiB).
	CatchUpPinTime  time.Duration
	CatchUpPinBytes int64

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
	def(&c.HeartbeatTimeout, 30*time.Second)
	def(&c.ElectionTimeout, c.HeartbeatTimeout)
	def(&c.LeaderLease, 2*time.Second)
	def(&c.CommitTimeout, time.Minute)
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
	if c.CatchUpRate == 0 {
		c.CatchUpRate = 100 << 20
	}
	if c.MoveRate == 0 {
		c.MoveRate = 50 << 20
	}
	if c.CatchUps <= 0 {
		c.CatchUps = 2
	}
	def(&c.CatchUpPinTime, 15*time.Minute)
	if c.CatchUpPinBytes == 0 {
		c.CatchUpPinBytes = 4 << 30
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
	if c.LeaderLease < 0 || c.HeartbeatTimeout < 0 || c.ElectionTimeout < 0 {
		bad("LeaderLease %v, HeartbeatTimeout %v, ElectionTimeout %v: none may be negative", c.LeaderLease, c.HeartbeatTimeout, c.ElectionTimeout)
	}
	return errors.Join(errs...)
}
