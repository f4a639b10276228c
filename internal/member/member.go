package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/raftsman/raftsman/internal/vfs"
)

const (
	wanted         = 3 // members of an etcd that the nodes run themselves
	requestTimeout = 5 * time.Second
	dialTimeout    = 3 * time.Second
)

// Config of a Membership. All but Logger are required.
type Config struct {
	FS      vfs.FS
	DataDir string
	Cluster string
	// ClientPort and PeerPort are etcd's, on the host that is given to Listen.
	ClientPort, PeerPort int
	// Prefix is what the keys of raftsman begin with; the lock's begin with it and
	// "-etcd", which no node reads.
	Prefix string
	Logger *slog.Logger
	// Retired says what operators want: whether this node is to have no member, and the
	// names of members whose nodes were decommissioned and hold nothing any more. nil:
	// nothing. It must not block.
	Retired func() (leave bool, members []string)
}

// Membership of a node in a cluster: its record, and its etcd member if it has one.
type Membership struct {
	cfg  Config
	log  *slog.Logger
	dir  *Dir
	host string

	mu     sync.Mutex
	record Record
	known  bool // the record is of a cluster
	etcd   *embed.Etcd
}

// Open locks the data directory and reads what it belongs to.
func Open(cfg Config) (*Membership, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	dir, record, err := OpenDir(cfg.FS, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	m := &Membership{cfg: cfg, log: cfg.Logger, dir: dir}
	if record != nil {
		if record.Cluster != cfg.Cluster {
			return nil, errors.Join(fmt.Errorf("data directory %s belongs to the cluster named %q, and --cluster says %q", cfg.DataDir, record.Cluster, cfg.Cluster), dir.Close())
		}
		m.record, m.known, m.host = *record, true, record.Host
	}
	return m, nil
}

// Record is what is known, if anything is.
func (m *Membership) Record() (r Record, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r = m.record
	r.Endpoints = slices.Clone(r.Endpoints)
	return r, m.known
}

// Listen sets the address on which an etcd member of this node listens. It is called
// before anything is started; without it the last one stays.
func (m *Membership) Listen(host string) { m.host = host }

// Joined notes the cluster that was found.
func (m *Membership) Joined(clusterID string, ownEtcd bool, endpoints []string) error {
	return m.update(func(r *Record) {
		*r = Record{State: stateOpen, Cluster: m.cfg.Cluster, ClusterID: clusterID, OwnEtcd: ownEtcd, Endpoints: endpoints, Host: m.host}
	})
}

// update changes the record on disk, and then here.
func (m *Membership) update(change func(r *Record)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.record
	r.Endpoints = slices.Clone(r.Endpoints)
	change(&r)
	if m.known && reflect.DeepEqual(r, m.record) {
		return nil
	}
	if err := m.dir.save(r); err != nil {
		return err
	}
	m.record, m.known = r, true
	return nil
}

func (m *Membership) clientURL() url.URL { return m.url(m.cfg.ClientPort) }
func (m *Membership) peerURL() url.URL   { return m.url(m.cfg.PeerPort) }

func (m *Membership) url(port int) url.URL {
	return url.URL{Scheme: "http", Host: net.JoinHostPort(m.host, strconv.Itoa(port))}
}

// Identified notes the id that the cluster was found to have.
func (m *Membership) Identified(clusterID string) error {
	return m.update(func(r *Record) { r.ClusterID = clusterID })
}

// Make makes a cluster's etcd, of one member. Nobody is told of it.
func (m *Membership) Make(ctx context.Context) error {
	name := newName()
	err := m.update(func(r *Record) {
		client := m.clientURL()
		*r = Record{State: stateMaking, Cluster: m.cfg.Cluster, OwnEtcd: true, Endpoints: []string{client.String()}, Member: name, Token: uuid.NewString(), Host: m.host}
	})
	if err != nil {
		return err
	}
	peer := m.peerURL()
	if err := m.start(embed.ClusterStateFlagNew, name+"="+peer.String()); err != nil {
		return errors.Join(err, m.forget())
	}
	select {
	case <-m.etcd.Server.ReadyNotify():
		return nil
	case err = <-m.etcd.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	m.stop()
	return errors.Join(fmt.Errorf("start etcd: %w", err), m.forget())
}

// Open writes down that the cluster is there.
func (m *Membership) Open() error {
	return m.update(func(r *Record) { r.State = stateOpen })
}

// Discard removes what Make has made, open or not. Somebody who has written to it all the same
// must have come by a way of his own, and keeps it.
func (m *Membership) Discard() error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	cli, err := m.client()
	if err != nil {
		return err
	}
	resp, err := cli.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	err = errors.Join(err, cli.Close())
	if err != nil {
		return fmt.Errorf("look whether the new etcd is empty: %w", err)
	}
	if resp.Header.Revision > 1 {
		return fmt.Errorf("the etcd that was made in %s was written to before it was opened, and is not removed: look what it holds", m.cfg.DataDir)
	}
	// A crash half way must not leave a cluster that is open and has no etcd.
	if err := m.update(func(r *Record) { r.State = stateMaking }); err != nil {
		return err
	}
	m.stop()
	return m.forget()
}

func (m *Membership) forget() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record, m.known = Record{}, false
	return m.dir.clear()
}

// Restart starts the member again that the directory has, and does not wait until
// it is of use: that may take other nodes.
func (m *Membership) Restart() error {
	r, known := m.Record()
	if !known || r.Member == "" {
		return nil
	}
	if !m.dir.hasEtcd() {
		m.log.Warn("this node's member of etcd has no data here; another one takes its place when the others answer", "member", r.Member)
		return m.update(func(r *Record) { r.Member = "" })
	}
	peer := m.peerURL()
	if err := m.start(embed.ClusterStateFlagExisting, r.Member+"="+peer.String()); err != nil {
		return err
	}
	return m.update(func(r *Record) { r.Host = m.host })
}

// start runs the member that the record names.
func (m *Membership) start(state, initial string) error {
	if err := m.portsFree(); err != nil {
		return err
	}
	client, peer := m.clientURL(), m.peerURL()
	r, _ := m.Record()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = r.Member, m.dir.etcd()
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster, cfg.ClusterState, cfg.InitialClusterToken = initial, state, r.Token
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newEtcdLog(m.log))
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd on %s and %s: %w", client.Host, peer.Host, err)
	}
	m.mu.Lock()
	m.etcd = e
	m.mu.Unlock()
	return nil
}

// portsFree says which port of etcd's is taken.
func (m *Membership) portsFree() error {
	client, peer := m.clientURL(), m.peerURL()
	for _, p := range []struct{ host, flag string }{{client.Host, "--etcd-client-port"}, {peer.Host, "--etcd-peer-port"}} {
		ln, err := net.Listen("tcp", p.host)
		if err != nil {
			return fmt.Errorf("can't listen on %s for etcd (%s): %w", p.host, p.flag, err)
		}
		if err := ln.Close(); err != nil {
			return err
		}
	}
	return nil
}

func newName() string { return "raftsman-" + uuid.NewString()[:8] }

// stop ends the member, if it runs, and waits for its end.
func (m *Membership) stop() {
	m.mu.Lock()
	e := m.etcd
	m.etcd = nil
	m.mu.Unlock()
	if e != nil {
		e.Close()
	}
}

// Close stops the member and unlocks the directory. Run has ended before.
func (m *Membership) Close() error {
	m.stop()
	return m.dir.Close()
}

// client makes a client of the cluster's etcd.
func (m *Membership) client() (*clientv3.Client, error) {
	r, _ := m.Record()
	return clientv3.New(clientv3.Config{
		Endpoints: r.Endpoints, DialTimeout: dialTimeout, DialKeepAliveTime: dialTimeout, DialKeepAliveTimeout: dialTimeout, Logger: zap.NewNop(),
	})
}
