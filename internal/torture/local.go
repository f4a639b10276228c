package torture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/raftsman/raftsman/internal/localetcd"
)

// LocalConfig says how to build a cluster on this machine.
type LocalConfig struct {
	Nodes   int
	Dir     string // for all data; it exists
	Program string // a raftsman that each node is a process of; empty: nodes in this process
	Version string
	Logger  *slog.Logger // of nodes in this process
}

// clusterName is the cluster's name in etcd.
const clusterName = "torture"

// sessionTTL is etcd's shortest: what happens at its end happens often.
const sessionTTL = 2 * time.Second

// local is a cluster on this machine: an etcd in this process, and nodes behind a
// network that fails as it is told.
type local struct {
	cfg   LocalConfig
	net   *network
	etcd  *embed.Etcd
	keys  *clientv3.Client
	nodes []*member
}

// member is a node, running or not.
type member struct {
	id                int32
	dir               string
	etcd              string
	kafka, web, peer  string // where it listens
	advertise         string // where other nodes find it
	runs              engine // nil: it does not
	start             func() (engine, error)
	paused            bool
	logger            *slog.Logger
	processLog        string
	program, nodeRack string
}

// engine is a node that runs.
type engine interface {
	stop() error  // in order; it has ended when this returns
	ended() error // nil while it runs
}

// killable is an engine that can be killed and stopped.
type killable interface {
	kill() error
	pause() error
	goOn() error
}

// Local starts a cluster on this machine and waits until it serves.
func Local(ctx context.Context, cfg LocalConfig) (t Target, err error) {
	l := &local{cfg: cfg, net: newNetwork()}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	ports, err := freePorts(1 + 3*cfg.Nodes)
	if err != nil {
		return nil, err
	}
	if l.etcd, err = localetcd.Start(ctx, ports[0], filepath.Join(cfg.Dir, "etcd")); err != nil {
		return nil, err
	}
	if l.keys, err = clientv3.New(clientv3.Config{Endpoints: []string{"http://" + ports[0]}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()}); err != nil {
		return nil, err
	}
	etcd, err := l.net.wire(etcdNode, ports[0], false)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Nodes {
		id := int32(i + 1)
		p := ports[1+3*i:]
		peer, err := l.net.wire(id, p[2], true)
		if err != nil {
			return nil, err
		}
		m := &member{
			id: id, dir: filepath.Join(cfg.Dir, fmt.Sprint("node-", id)), etcd: "http://" + etcd.addr(), nodeRack: fmt.Sprint("r", id),
			kafka: p[0], web: p[1], peer: p[2], advertise: peer.addr(), logger: cfg.Logger.With("node", id), program: cfg.Program,
			processLog: filepath.Join(cfg.Dir, fmt.Sprintf("node-%d.log", id)),
		}
		m.start = func() (engine, error) { return startInside(m, cfg.Version) }
		if cfg.Program != "" {
			m.start = func() (engine, error) { return startProcess(m) }
		}
		l.nodes = append(l.nodes, m)
		if m.runs, err = m.start(); err != nil {
			return nil, fmt.Errorf("start node %d: %w", id, err)
		}
	}
	for _, m := range l.nodes {
		if err := m.waitReady(ctx); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (m *member) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		resp, err := request(ctx, httpClient, http.MethodGet, m.web, "/readyz", nil)
		if err == nil {
			resp.Body.Close()
			return nil
		}
		if ended := m.runs.ended(); ended != nil {
			return fmt.Errorf("node %d ended: %w", m.id, ended)
		}
		if !wait(ctx, pause) {
			return fmt.Errorf("node %d is not ready: %w", m.id, err)
		}
	}
}

func (l *local) brokers() (addrs []string) {
	for _, m := range l.nodes {
		addrs = append(addrs, m.kafka)
	}
	return addrs
}

func (l *local) http() (addrs []string) {
	for _, m := range l.nodes {
		if m.runs != nil && !m.paused {
			addrs = append(addrs, m.web)
		}
	}
	return addrs
}

func (l *local) died() error {
	for _, m := range l.nodes {
		if m.runs == nil {
			continue
		}
		if err := m.runs.ended(); err != nil {
			return fmt.Errorf("node %d has ended by itself: %w", m.id, err)
		}
	}
	return nil
}

func (l *local) size() int { return l.cfg.Nodes }

// Close stops everything.
func (l *local) Close() error {
	var errs []error
	l.net.set(rule{}, false, l.all()...)
	for _, m := range l.nodes {
		if k, ok := m.runs.(killable); ok && k.kill() == nil {
			continue
		}
		if m.runs != nil {
			errs = append(errs, m.runs.stop())
		}
	}
	l.net.close()
	if l.keys != nil {
		errs = append(errs, l.keys.Close())
	}
	if l.etcd != nil {
		l.etcd.Close()
	}
	return errors.Join(errs...)
}

// all are all directions between nodes.
func (l *local) all() (ds [][2]int32) {
	for _, a := range l.nodes {
		for _, b := range l.nodes {
			if a != b {
				ds = append(ds, [2]int32{a.id, b.id})
			}
		}
	}
	return ds
}

// some chooses some of the nodes: mostly one, at times several, at times all.
func (l *local) some(rnd *rand.Rand) (chosen []*member) {
	n := 1
	if k := rnd.IntN(10); k == 0 {
		n = len(l.nodes)
	} else if k < 3 {
		n = 1 + rnd.IntN(len(l.nodes))
	}
	for _, i := range rnd.Perm(len(l.nodes))[:n] {
		chosen = append(chosen, l.nodes[i])
	}
	return chosen
}

func names(nodes []*member) string {
	var ids []string
	for _, m := range nodes {
		ids = append(ids, fmt.Sprint(m.id))
	}
	return "node " + strings.Join(ids, ", ")
}

// firstPort to lastPort are beneath those that the system gives to connections going
// out: a node that is started again finds its ports free.
const firstPort, lastPort = 10_000, 30_000

// freePorts returns addresses of ports that nobody uses now.
func freePorts(n int) (addrs []string, err error) {
	taken := make(map[int]bool)
	for tries := 0; len(addrs) < n; tries++ {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if taken[port] {
			continue
		}
		addr := fmt.Sprint("127.0.0.1:", port)
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			if tries > 1000 {
				return nil, fmt.Errorf("find a free port: %w", err)
			}
			continue
		}
		if err := ln.Close(); err != nil {
			return nil, err
		}
		taken[port] = true
		addrs = append(addrs, addr)
	}
	return addrs, nil
}
