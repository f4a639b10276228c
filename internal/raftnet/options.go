package raftnet

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/raftsman/raftsman/internal/identity"
)

// Resolver tells where replicas and nodes are. Its answers may change at any
// time; Net asks again every PingInterval and at Refresh. It must not block.
type Resolver interface {
	// NodeOf returns the node that holds a replica.
	NodeOf(replica uint64) (node int32, ok bool)
	// PeerAddr returns where a node listens for its peers.
	PeerAddr(node int32) (addr string, ok bool)
	// Peers returns all nodes to keep connections to. The own node is ignored.
	Peers() []int32
}

// Options of a Net. A zero duration or number stands for its default.
type Options struct {
	// Identity of this node; the handshake carries it.
	Identity identity.Identity
	// Listener accepts the peers' connections. Net closes it.
	Listener net.Listener
	// Dial opens a connection to a peer; nil is TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Resolver is asked for replicas and nodes.
	Resolver Resolver
	// Logger; nil discards.
	Logger *slog.Logger
	// Registerer gets the metrics raftsman_raftnet_*, until Close. It may be nil.
	Registerer prometheus.Registerer
	// CheckPeer may refuse a node's incarnation, on both sides of the handshake.
	// Nil takes every one.
	CheckPeer func(node int32, incarnation string) error

	// PingInterval is the pause between pings to a peer (default 150 ms).
	PingInterval time.Duration
	// PingTimeout without a pong makes a peer down (default 1 s). It also bounds
	// a dial and its handshake.
	PingTimeout time.Duration
	// Healthy is asked before pings are answered and heartbeats and appends are
	// sent; nil is always healthy. It must be quick.
	Healthy func() bool

	// VoteTimeout bounds a vote or pre-vote request (default 1 s).
	VoteTimeout time.Duration
	// HeartbeatTimeout bounds a heartbeat and a TimeoutNow request (default 2 s).
	HeartbeatTimeout time.Duration
	// HeartbeatWindow is how long a heartbeat waits for those of other groups to
	// share its frame (default 100 ms).
	HeartbeatWindow time.Duration
	// HeartbeatHold is how long a heartbeat of a group for which all is well is
	// kept, and its beat repeated each HeartbeatRepeat, before raft's call returns.
	// Raft's leader lease must be longer by far (default 0: it returns at once).
	HeartbeatHold, HeartbeatRepeat time.Duration
	// DataTimeout fails an append that a live peer does not answer (default 30 s).
	DataTimeout time.Duration
	// UnknownRetry is how long AppendEntries asks again a node that does not hold
	// the replica (yet) before it fails (default 1 s).
	UnknownRetry time.Duration
	// DataConns is the number of Data connections to each peer (default 2, at most 16).
	DataConns int
	// InboxBytes bounds the requests that wait for one group's raft (default 128 MiB).
	InboxBytes int64
}

func (o *Options) setDefaults() error {
	switch {
	case o.Identity.ClusterID == "" || o.Identity.NodeID <= 0 || o.Identity.Incarnation == "":
		return errors.New("raftnet: incomplete identity")
	case len(o.Identity.ClusterID) > 255 || len(o.Identity.Incarnation) > 255:
		return errors.New("raftnet: cluster id or incarnation is longer than 255 bytes")
	case o.Listener == nil:
		return errors.New("raftnet: no listener")
	case o.Resolver == nil:
		return errors.New("raftnet: no resolver")
	case o.DataConns < 0 || o.DataConns > 16:
		return errors.New("raftnet: DataConns must be between 1 and 16")
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Healthy == nil {
		o.Healthy = func() bool { return true }
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.PingInterval, 150 * time.Millisecond}, {&o.PingTimeout, time.Second},
		{&o.VoteTimeout, time.Second}, {&o.HeartbeatTimeout, 2 * time.Second},
		{&o.HeartbeatWindow, 100 * time.Millisecond},
		{&o.DataTimeout, 30 * time.Second}, {&o.UnknownRetry, time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.DataConns == 0 {
		o.DataConns = 2
	}
	if o.InboxBytes <= 0 {
		o.InboxBytes = 128 << 20
	}
	return nil
}
