package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"github.com/raftsman/raftsman/internal/discovery"
	"github.com/raftsman/raftsman/internal/identity"
	"github.com/raftsman/raftsman/internal/member"
	"github.com/raftsman/raftsman/internal/vfs"
	"github.com/raftsman/raftsman/pkg/node"
)

// wayFlags say how a node finds its cluster when it is not told where etcd is.
type wayFlags struct {
	discover, bootstrap, discoverable bool
	group, iface, join, secretFile    string
	timeout, testDelay                time.Duration
	clientPort, peerPort              int
}

func (w *wayFlags) bind(f *pflag.FlagSet) {
	f.BoolVar(&w.discover, "discover", false, "find the cluster on the local network, by UDP multicast, instead of --etcd-endpoints; listen on the address that it was found from")
	f.BoolVar(&w.bootstrap, "bootstrap", false, "with --discover: make the cluster, etcd included, if there is none; nodes that start together agree on one")
	f.StringVar(&w.join, "join", "", "HTTP address of any node of the cluster, HOST:PORT, to ask instead of --etcd-endpoints")
	f.BoolVar(&w.discoverable, "discoverable", false, "answer nodes that use --discover, though this one knows its etcd from --etcd-endpoints or --join")
	f.StringVar(&w.group, "discover-group", discovery.DefaultGroup, "multicast address and port on which nodes find each other")
	f.StringVar(&w.iface, "discover-interface", "", "network interface to find others on (default: the one that the group is routed to)")
	f.DurationVar(&w.timeout, "discover-timeout", 5*time.Second, "how long to listen before nobody is there")
	f.StringVar(&w.secretFile, "cluster-secret-file", "", "file with a secret that all nodes share and sign with what they say to those that look for the cluster")
	f.IntVar(&w.clientPort, "etcd-client-port", 2379, "port for clients of the etcd member that this node may run (--discover, --join)")
	f.IntVar(&w.peerPort, "etcd-peer-port", 2380, "port for peers of the etcd member that this node may run (--discover, --join)")
	f.DurationVar(&w.testDelay, "discover-test-delay", 0, "for tests: stop for up to this long between the steps of a first node's choice")
	_ = f.MarkHidden("discover-test-delay") // the flag is there
}

// check finds what excludes each other.
func (w *wayFlags) check(from origins) error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, name := range []string{"etcd-endpoints", "etcd-discovery-srv"} {
		if from[name] == "default" || from[name] == "environment "+fallbacks[name] {
			continue
		}
		if w.discover {
			wrong("--discover and --%s (%s) exclude each other: etcd's address comes from the cluster that is found; to be found by others use --discoverable", name, from[name])
		}
		if w.join != "" {
			wrong("--join and --%s (%s) exclude each other: etcd's address comes from the node that is asked", name, from[name])
		}
	}
	if w.discover && w.join != "" {
		wrong("--discover and --join exclude each other: give the one or the other")
	}
	if w.bootstrap && !w.discover {
		wrong("--bootstrap needs --discover: nodes find out on the network which of them is the first")
	}
	if w.join != "" {
		if host, port, err := net.SplitHostPort(w.join); err != nil || host == "" || port == "" {
			wrong("--join %q: use HOST:PORT, the HTTP address of a node", w.join)
		}
	}
	if err := discovery.CheckGroup(w.group); err != nil {
		wrong("--discover-group %w", err)
	}
	if w.timeout < time.Second || w.timeout > 10*time.Minute {
		wrong("--discover-timeout %q: use 1s to 10m", w.timeout)
	}
	for _, p := range []struct {
		flag string
		port int
	}{{"--etcd-client-port", w.clientPort}, {"--etcd-peer-port", w.peerPort}} {
		if p.port < 1 || p.port > 65535 {
			wrong("%s %d: use 1 to 65535", p.flag, p.port)
		}
	}
	if w.clientPort == w.peerPort {
		wrong("--etcd-client-port and --etcd-peer-port are both %d: etcd needs two", w.peerPort)
	}
	return errors.Join(errs...)
}

// used says whether the node comes to its cluster this way, or did before.
func (w *wayFlags) used(from origins, dataDir string) bool {
	if w.discover || w.join != "" || w.discoverable {
		return true
	}
	_, err := vfs.OS.Stat(vfs.Join(dataDir, "membership.json"))
	return dataDir != "" && err == nil
}

const (
	minSecret = 16
	maxSecret = 4096
)

func (w *wayFlags) secret() ([]byte, error) {
	if w.secretFile == "" {
		return nil, nil
	}
	info, err := os.Stat(w.secretFile)
	if err == nil && info.Size() > maxSecret {
		err = fmt.Errorf("%d bytes are too many", info.Size())
	}
	var secret []byte
	if err == nil {
		secret, err = os.ReadFile(w.secretFile)
	}
	if secret = bytes.TrimSpace(secret); err == nil && len(secret) < minSecret {
		err = fmt.Errorf("it needs at least %d bytes", minSecret)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("--cluster-secret-file %s: %w", w.secretFile, err)}
	}
	return secret, nil
}

// wayIn is a node's way into its cluster, from the first question to the last.
type wayIn struct {
	*nodeFlags
	from   origins
	log    *slog.Logger
	member *member.Membership // nil for a node that was told where etcd is
	only   string             // the cluster that the data directory belongs to
	out    discovery.Outcome
	node   atomic.Pointer[node.Node] // once it is ready
}

// serveFound finds or makes the cluster, and serves in it.
func (n *nodeFlags) serveFound(ctx context.Context, from origins) (err error) {
	if err := n.cfg.Validate(); err != nil {
		return err
	}
	w := &wayIn{nodeFlags: n, from: from, log: n.cfg.Logger}
	if n.cfg.Secret, err = n.way.secret(); err != nil {
		return err
	}
	id, _, err := identity.Load(vfs.OS, n.cfg.DataDir)
	if err != nil {
		return err
	}
	w.only = id.ClusterID
	record, err := member.ReadRecord(vfs.OS, n.cfg.DataDir)
	if err != nil {
		return err
	}
	told := n.toldEtcd(from)
	if told && record != nil && record.OwnEtcd {
		return usageError{fmt.Errorf("--etcd-endpoints (%s): data directory %s belongs to a cluster whose nodes run etcd themselves; leave that out, it is known there", from["etcd-endpoints"], n.cfg.DataDir)}
	}
	if n.way.discover || n.way.join != "" || record != nil && !told {
		if w.member, err = member.Open(member.Config{
			FS: vfs.OS, DataDir: n.cfg.DataDir, Cluster: n.cfg.Cluster, Prefix: n.cfg.Etcd.Prefix,
			ClientPort: n.way.clientPort, PeerPort: n.way.peerPort, Logger: w.log, Retired: w.retired,
		}); err != nil {
			return err
		}
		n.cfg.EtcdMember = func() string { r, _ := w.member.Record(); return r.Member }
		defer func() { err = errors.Join(err, w.member.Close()) }()
		if err := w.enter(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	return w.serve(ctx)
}

// toldEtcd says whether somebody has said where etcd is, to raftsman.
func (n *nodeFlags) toldEtcd(from origins) bool {
	said := func(name string) bool {
		return from[name] != "default" && from[name] != "environment "+fallbacks[name]
	}
	return said("etcd-endpoints") || said("etcd-discovery-srv")
}

// enter brings the membership to where etcd's endpoints are known.
func (w *wayIn) enter(ctx context.Context) error {
	record, known := w.member.Record()
	host, err := w.host()
	if err != nil && (!known || record.Host == "") {
		return err
	}
	if err != nil {
		w.log.Warn("the node goes on at the address that it had", "address", record.Host, "err", err)
		host = record.Host
	}
	w.member.Listen(host)
	switch {
	case known:
		err = w.member.Restart()
	case w.way.join != "":
		err = w.ask(ctx, w.way.join, "")
	default:
		err = w.look(ctx)
	}
	if err != nil {
		return err
	}
	record, _ = w.member.Record()
	w.cfg.Etcd.Endpoints, w.cfg.Etcd.DiscoverySRV, w.cfg.Etcd.FollowMembers = record.Endpoints, "", record.OwnEtcd
	w.listenOn(host)
	return nil
}

// host is the address of this machine that the others see.
func (w *wayIn) host() (string, error) {
	if w.way.join != "" {
		conn, err := net.Dial("udp", w.way.join) // asks the routing table, and sends nothing
		if err != nil {
			return "", fmt.Errorf("--join %s: %w", w.way.join, err)
		}
		defer conn.Close()
		return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().String(), nil
	}
	if record, known := w.member.Record(); known && !w.way.discover {
		return record.Host, nil
	}
	place, err := discovery.FindPlace(w.way.group, w.way.iface)
	if err != nil {
		return "", fmt.Errorf("--discover: %w", err)
	}
	return place.Addr.Addr().String(), nil
}

// listenOn puts the listeners that nobody has placed on an address.
func (w *wayIn) listenOn(host string) {
	move := func(flag string, addr *string) {
		if _, port, err := net.SplitHostPort(*addr); err == nil && w.from[flag] == "default" {
			*addr = net.JoinHostPort(host, port)
		}
	}
	move("kafka-addr", &w.cfg.Listeners[0].Addr)
	move("http-addr", &w.cfg.HTTPAddr)
	move("peer-addr", &w.cfg.PeerAddr)
}

func (w *wayIn) options() discovery.Options {
	return discovery.Options{
		Cluster: w.cfg.Cluster, Group: w.way.group, Interface: w.way.iface, Secret: w.cfg.Secret,
		Logger: w.log, Registerer: w.cfg.Registerer,
	}
}

// look finds the cluster on the network, or makes it.
func (w *wayIn) look(ctx context.Context) error {
	opts := discovery.LookOptions{Options: w.options(), Timing: discovery.DefaultTiming(w.way.timeout), Only: w.only, Pause: w.pause(ctx)}
	if w.way.bootstrap {
		opts.Maker = w.member
	}
	out, err := discovery.Look(ctx, opts)
	if err != nil {
		return w.lost(err)
	}
	w.out = out
	if out.First {
		w.log.Info("this node is the first of a new cluster", "cluster", w.cfg.Cluster)
		return nil
	}
	return w.ask(ctx, out.Found.HTTP, out.Found.ClusterID)
}

// pause is what --discover-test-delay asks for.
func (w *wayIn) pause(ctx context.Context) func(string) {
	if w.way.testDelay <= 0 {
		return nil
	}
	return func(step string) {
		d := rand.N(w.way.testDelay)
		w.log.Warn("stopping for a test (--discover-test-delay)", "before", step, "for", d)
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
}

// lost says what to do when nobody or too many were found.
func (w *wayIn) lost(err error) error {
	var nobody *discovery.NobodyError
	var several *discovery.SeveralError
	switch {
	case errors.As(err, &nobody) && w.only != "":
		return fmt.Errorf("%w. Start the other nodes of that cluster, give this one --join HOST:PORT of one of them, or an empty --data-dir for another cluster", err)
	case errors.As(err, &nobody):
		return fmt.Errorf("%w. If there is no cluster yet, start one with --bootstrap; if there is one, check that its nodes run with --discover or --discoverable, --cluster %s and the same --cluster-secret-file, that multicast reaches them (--discover-interface, --discover-group), or name one of them: --join HOST:PORT", err, w.cfg.Cluster)
	case errors.As(err, &several):
		return fmt.Errorf("%w. They were made apart and are never merged. Say which one to join: --join HOST:PORT", err)
	}
	return err
}

// ask fetches from a node how to reach the cluster, and notes it. clusterID is what
// it has to be, if that is known.
func (w *wayIn) ask(ctx context.Context, addr, clusterID string) error {
	var c discovery.Cluster
	deadline := time.Now().Add(w.way.timeout)
	for {
		var err error
		if c, err = discovery.Fetch(ctx, addr, w.cfg.Secret); err == nil {
			break
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("asked %s for its cluster for %v, in vain: %w. Check that a node's HTTP address is reached there, or name another node: --join HOST:PORT", addr, w.way.timeout, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	switch {
	case c.Cluster != w.cfg.Cluster:
		return fmt.Errorf("%s is a node of the cluster named %q, and --cluster says %q", addr, c.Cluster, w.cfg.Cluster)
	case clusterID != "" && c.ClusterID != clusterID:
		return fmt.Errorf("%s was found as a node of cluster %s, and says that it is one of %s: start again", addr, clusterID, c.ClusterID)
	case w.only != "" && c.ClusterID != w.only:
		return fmt.Errorf("%s is a node of cluster %s, and data directory %s belongs to cluster %s: use the directory of a node of that cluster, or an empty one", addr, c.ClusterID, w.cfg.DataDir, w.only)
	}
	for _, e := range c.Etcd {
		if u, err := url.Parse(e); err == nil && local(u.Hostname()) && !local(hostOf(addr)) {
			return fmt.Errorf("%s reaches etcd at %s, which nobody can from another machine: start it with --etcd-endpoints that all nodes reach, or give this node --etcd-endpoints", addr, e)
		}
	}
	w.log.Info("found the cluster", "cluster", c.Cluster, "id", c.ClusterID, "through", addr, "nodes", len(c.Nodes), "etcd", strings.Join(c.Etcd, ","))
	return w.member.Joined(c.ClusterID, c.OwnEtcd, c.Etcd)
}

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}

// local says whether a host is this machine itself.
func local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// serve runs the node, its etcd member's upkeep and its answers to those who look.
func (w *wayIn) serve(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	side, stopSide := context.WithCancel(context.WithoutCancel(ctx)) // ends after the node
	defer func() { stopSide(); beside.Wait(); stop() }()
	failed := make(chan error, 1)
	if w.member != nil && w.cfg.Etcd.FollowMembers {
		beside.Go(func() {
			if err := w.member.Run(side); err != nil {
				failed <- err
				stop()
			}
		})
	}
	var answerer *discovery.Answerer
	if w.way.discover || w.way.discoverable {
		if answerer, err = discovery.NewAnswerer(w.options(), w.out.ID, w.out.Seq, discovery.DefaultTiming(w.way.timeout).Interval); err != nil {
			return err
		}
		w.cfg.OtherClusters = func() any { return answerer.Others() }
		beside.Go(func() { answerer.Run(side) })
	}
	err = w.nodeFlags.serve(ctx, func(n *node.Node) {
		beside.Go(func() {
			select {
			case <-n.Ready():
				w.ready(n, answerer)
			case <-side.Done():
			}
		})
	})
	select {
	case failure := <-failed:
		err = errors.Join(failure, err)
	default:
	}
	return err
}

// retired is what decommissions mean for etcd's members.
func (w *wayIn) retired() (leave bool, members []string) {
	if n := w.node.Load(); n != nil {
		return n.EtcdMembers()
	}
	return false, nil
}

// ready tells the others of this node.
func (w *wayIn) ready(n *node.Node, answerer *discovery.Answerer) {
	w.node.Store(n)
	if w.member != nil {
		if err := w.member.Identified(n.ClusterID()); err != nil {
			w.log.Warn("which cluster this is can't be written down", "err", err)
		}
	}
	http, err := n.HTTPAdvertised()
	if err != nil {
		w.log.Warn("others can't be told this node's HTTP address", "err", err)
		return
	}
	if answerer != nil {
		answerer.Serve(n.ClusterID(), http)
	}
}
