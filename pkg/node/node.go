// Package node is one raftsman node, for the binary and for programs that
// embed it. It is the only place where the parts are put together.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/dashboard"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/httpgateway"
	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/kafkagateway"
	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/pkg/election"
	"github.com/raftsman/raftsman/pkg/replication"
)

// Node is one member of a cluster.
type Node struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	// In the order in which they are built; closed in reverse.
	dir         *dataDir
	peerLn      net.Listener
	httpLn      net.Listener
	kafkaLns    []kafka.Listener
	forwardLn   *kafka.Listener // of the Kafka gateway; nil: there is none
	etcd        *clientv3.Client
	store       *cluster.Store
	peers       *peers
	host        *replication.Host
	writer      *seglog.Writer
	leaders     *leaders
	verifier    *verifier
	replicas    *replicas
	mender      *mender
	compactor   *compactor
	verifying   sync.Mutex // held by a verification of the cluster
	producerIDs *producerIDs
	groups      *groups
	kafka       *kafka.Server
	forwarder   *kafkagateway.Gateway // nil: there is none
	http        *httpgateway.Gateway
	dashboard   *dashboard.Dashboard
	gateway     *gateway.Server
	closers     []closer

	changes   changes
	redirects redirects
	followers followers
	load      load
	lags      lags
	winners   winners
	won       atomic.Pointer[election.Leadership] // while this node is the winner
	terms     atomic.Uint64                       // how often it became that
	shed      shedding
	handover  *handover
	freer     *freer
	hurry     chan struct{} // closed by Hurry
	hurryOnce sync.Once
	topics    topicCache
	kick      chan struct{} // the view, a leadership or a peer changed
	scan      chan struct{} // the replicas are to be looked at, though the view did not change
	started   time.Time
	hadView   bool // view.json was there: the others know this node
	ready     chan struct{}
	readyOnce sync.Once
	fatal     chan error
	stuck     atomic.Bool // the disk of the write-ahead log hangs
	slow      slowDisk
	watched   watched
	turns     turns

	mu      sync.Mutex
	session *election.Session // in etcd, nil while there is none
	space   space

	// registered: there was a session since the start; settled: the replicas of
	// the first view were opened.
	// inView: the node has seen its own registration.
	registered, settled, inView bool
}

type closer struct {
	what  string
	close func() error
}

// New checks the configuration, locks the data directory and takes the ports.
// Everything else happens in Run.
func New(cfg Config) (_ *Node, err error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger, now: cfg.Clock, started: cfg.Clock(),
		kick: make(chan struct{}, 1), scan: make(chan struct{}, 1), ready: make(chan struct{}), fatal: make(chan error, 1), hurry: make(chan struct{}),
	}
	n.handover = newHandover(n)
	n.followers.n = n
	n.redirects.known, n.redirects.changed = backend{n}.whoLeads, n.changes.wait
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := n.countSyncs(); err != nil {
		return nil, err
	}
	if n.dir, err = openDataDir(n.cfg.FS, cfg.DataDir, cfg.RaftStore); err != nil {
		return nil, err
	}
	n.onClose("data directory", n.dir.close)
	if cfg.NodeID != 0 && n.dir.set && n.dir.id.NodeID != cfg.NodeID {
		return nil, fmt.Errorf("data directory %s belongs to node %d, and --node-id says %d: use the directory of that node, or an empty one", cfg.DataDir, n.dir.id.NodeID, cfg.NodeID)
	}
	if err := n.listen(); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Node) onClose(what string, fn func() error) {
	n.closers = append(n.closers, closer{what, fn})
}

// listen takes the ports early, so that one that is in use is the first thing
// that is said.
func (n *Node) listen() error {
	take := func(addr, flag string) (net.Listener, error) {
		ln, err := n.cfg.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("can't listen on %s (%s): %w", addr, flag, err)
		}
		return ln, nil
	}
	var err error
	if n.peerLn, err = take(n.cfg.PeerAddr, "--peer-addr"); err != nil {
		return err
	}
	n.onClose("peer listener", closeOnce(n.peerLn))
	if n.httpLn, err = take(n.cfg.HTTPAddr, "--http-addr"); err != nil {
		return err
	}
	n.onClose("HTTP listener", closeOnce(n.httpLn))
	for _, l := range n.cfg.Listeners {
		ln, err := take(l.Addr, "--kafka-addr or --kafka-listener")
		if err != nil {
			return err
		}
		n.onClose("Kafka listener", closeOnce(ln))
		advertise, err := advertised(l.Advertise, ln.Addr())
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		n.kafkaLns = append(n.kafkaLns, kafka.Listener{Net: ln, Name: l.Name, Advertised: advertise})
	}
	if n.cfg.KafkaGatewayAddr == "" {
		return nil
	}
	ln, err := take(n.cfg.KafkaGatewayAddr, "--kafka-gateway-addr")
	if err != nil {
		return err
	}
	n.onClose("Kafka gateway listener", closeOnce(ln))
	told, err := advertised(n.cfg.KafkaGatewayAdvertise, ln.Addr())
	if err != nil {
		return fmt.Errorf("--kafka-gateway-advertise: %w", err)
	}
	n.forwardLn = &kafka.Listener{Net: ln, Name: "gateway", Advertised: told}
	return nil
}

// closeOnce closes a listener that its server may have closed already.
func closeOnce(ln net.Listener) func() error {
	return func() error {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// KafkaAddr is the address of the first Kafka listener.
func (n *Node) KafkaAddr() string { return n.kafkaLns[0].Net.Addr().String() }

// KafkaGatewayAddr is the address of the Kafka gateway, "" if there is none.
func (n *Node) KafkaGatewayAddr() string {
	if n.forwardLn == nil {
		return ""
	}
	return n.forwardLn.Net.Addr().String()
}

// HTTPAddr is the address of the HTTP listener.
func (n *Node) HTTPAddr() string { return n.httpLn.Addr().String() }

// PeerAddr is the address that other nodes connect to.
func (n *Node) PeerAddr() string { return n.peerLn.Addr().String() }

// ID is the node's id, 0 while a new node waits for etcd to hand one out.
func (n *Node) ID() int32 { return n.dir.id.NodeID }

// ClusterID is the id of the node's cluster, once it is Ready.
func (n *Node) ClusterID() string { return n.dir.id.ClusterID }

// HTTPAdvertised is the HTTP address that others are told.
func (n *Node) HTTPAdvertised() (string, error) {
	return advertised(n.cfg.HTTPAdvertise, n.httpLn.Addr())
}

// Ready is closed when the node serves: it is registered in etcd, or etcd is
// away and it runs on what it knows, and its replicas are open.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Run runs the node until stop ends or it can't go on, and closes it. When stop
// has ended it first hands over what it leads (Config.DrainTimeout, Hurry). It
// returns nil when stop ended and everything was closed well.
func (n *Node) Run(stop context.Context) (err error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	var wg sync.WaitGroup
	defer func() {
		cancel()
		if n.http != nil {
			err = errors.Join(err, n.http.Close()) // streams end
		}
		if n.groups != nil {
			n.groups.close() // answers members that wait for others
		}
		if n.kafka != nil {
			err = errors.Join(err, n.kafka.Close()) // answers what is pending while the replicas are still open
		}
		n.redirects.close()
		// The peers take over as soon as this node's connections break; it may
		// take etcd seconds, if it is away, to let go of the lease.
		if n.replicas != nil {
			err = errors.Join(err, n.replicas.close())
		}
		if n.host != nil {
			err = errors.Join(err, n.host.Close())
		}
		wg.Wait()
		err = errors.Join(err, n.Close())
	}()
	if err := n.connect(); err != nil {
		return err
	}
	wg.Go(func() { n.background("metadata", n.store.Run(ctx)) })
	if err := n.identify(stop); err != nil {
		if stop.Err() != nil {
			return nil
		}
		return err
	}
	if err := n.refuseSecond(stop); err != nil {
		return err
	}
	if err := n.openStores(); err != nil {
		return err
	}
	if err := n.openDoors(); err != nil {
		return err
	}
	wg.Go(func() { n.background("reconcile", n.reconcile(ctx)) })
	wg.Go(func() { n.background("election", n.takePart(ctx)) })
	wg.Go(func() { n.background("status", n.reportStatus(ctx)) })
	wg.Go(func() { n.watchDisk(ctx) })
	wg.Go(func() { n.watchHealth(ctx) })
	wg.Go(func() { n.mender.run(ctx) })
	wg.Go(func() { n.compactor.run(ctx) })
	wg.Go(func() { n.watchSpace(ctx) })
	wg.Go(func() { n.watchSlowDisk(ctx) })
	wg.Go(func() { n.handover.run(ctx) })
	wg.Go(func() { n.freer.run(ctx) })
	wg.Go(func() { n.groups.run(ctx) })
	wg.Go(func() { n.dashboard.Run(ctx) })
	wg.Go(func() { n.background("HTTP server", n.gateway.Run(ctx)) })
	wg.Go(func() {
		n.takeBearings(ctx)
		n.background("Kafka server", n.kafka.Serve())
	})
	if n.forwarder != nil {
		wg.Go(func() { n.background("Kafka gateway", n.forwarder.Run(ctx)) })
	}

	select {
	case <-stop.Done():
	case err := <-n.fatal:
		return err
	}
	n.log.Info("stopping", "node", n.ID())
	drained := make(chan struct{})
	wg.Go(func() {
		defer close(drained)
		n.drain(ctx)
	})
	select {
	case <-drained:
		return nil
	case err := <-n.fatal:
		return err
	}
}

// background passes on the error of something that should not have ended.
func (n *Node) background(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		n.fail(fmt.Errorf("%s: %w", what, err))
	}
}

// fail ends Run.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

// alive says whether a node can be reached; this one can.
func (n *Node) alive(node int32) bool {
	return node == n.dir.id.NodeID || n.host != nil && n.host.Net().Alive(node)
}

// wake makes everybody look again.
func (n *Node) wake() {
	n.changes.notify()
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// rescan has reconcile look at the replicas again.
func (n *Node) rescan() {
	select {
	case n.scan <- struct{}{}:
	default:
	}
}

// Close closes what New and Run have opened, in reverse order. Run does it by
// itself; it is for a node that was never run.
func (n *Node) Close() error {
	n.mu.Lock()
	closers := n.closers
	n.closers = nil
	n.mu.Unlock()
	var errs []error
	for i := len(closers) - 1; i >= 0; i-- {
		if err := closers[i].close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", closers[i].what, err))
		}
	}
	return errors.Join(errs...)
}

// Reaches says whether the node knows of count nodes, a winner among them, and
// can reach them all.
func (n *Node) Reaches(count int) bool {
	select {
	case <-n.ready:
	default:
		return false
	}
	b := backend{n}
	return len(b.Brokers(n.kafkaLns[0].Name)) >= count && len(n.store.View().Nodes) >= count && b.ControllerID() > 0
}
