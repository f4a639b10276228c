package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/srv"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/raftsman/raftsman/internal/cluster"
)

// followMembers is how often etcd is asked for its members (Etcd.FollowMembers).
const followMembers = 5 * time.Second

// connect makes the etcd client and the view of the cluster. etcd need not
// answer.
func (n *Node) connect() error {
	observe, err := n.observeEtcd()
	if err != nil {
		return err
	}
	client, err := etcdClient(n.cfg.Etcd, n.cfg.SessionTTL, n.handshakes(), grpc.WithChainUnaryInterceptor(observe))
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	n.etcd = client
	n.warnOfCertificate()
	n.onClose("etcd client", client.Close)
	n.store, err = cluster.New(cluster.Options{
		Client: client, Cluster: n.cfg.Cluster, Prefix: n.cfg.Etcd.Prefix, Name: n.describe(), ClusterID: n.dir.id.ClusterID,
		FS: n.cfg.FS, Dir: n.cfg.DataDir, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.hadView = n.store.View().Source == cluster.SourceDisk
	return nil
}

// describe names this node to people who read etcd.
func (n *Node) describe() string {
	id := n.cfg.NodeID
	if n.dir.set {
		id = n.dir.id.NodeID
	}
	return fmt.Sprintf("node %d at %s", id, n.PeerAddr())
}

// DialEtcd makes a client of etcd. etcd need not answer. ttl is how long a lease
// lives whose renewal the client is to be in time for.
func DialEtcd(e Etcd, ttl time.Duration) (*clientv3.Client, error) {
	client, err := etcdClient(e, ttl, func(error) {})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return client, nil
}

// etcdClient makes a client. failed is told of TLS that fails, and of nil when it
// went well.
func etcdClient(e Etcd, ttl time.Duration, failed func(error), more ...grpc.DialOption) (*clientv3.Client, error) {
	endpoints := e.Endpoints
	if e.DiscoverySRV != "" {
		found, err := srv.GetClient("etcd-client", e.DiscoverySRV, "")
		if err != nil {
			return nil, fmt.Errorf("look up --etcd-discovery-srv %s: %w", e.DiscoverySRV, err)
		}
		endpoints = found.Endpoints
	}
	var tlsConfig *tls.Config
	if e.CACert != "" || e.Cert != "" {
		info := transport.TLSInfo{CertFile: e.Cert, KeyFile: e.Key, TrustedCAFile: e.CACert, Logger: zap.NewNop()}
		var err error
		if tlsConfig, err = info.ClientConfig(); err != nil {
			return nil, fmt.Errorf("TLS (--etcd-cacert, --etcd-cert, --etcd-key): %w", err)
		}
	}
	user, password, _ := strings.Cut(e.User, ":")
	if e.PasswordFile != "" {
		b, err := os.ReadFile(e.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("--etcd-password-file: %w", err)
		}
		password = strings.TrimRight(string(b), "\r\n")
	}
	// Without a keep-alive time of its own the client takes half a minute to
	// notice a dead endpoint, longer than a lease lasts.
	alive := ttl / 3
	options := []grpc.DialOption{
		// gRPC's own backoff grows to two minutes: too long after an outage.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
	}
	options = append(options, more...)
	if user != "" {
		options = append(options, authenticateLater())
	}
	if tlsConfig != nil && len(endpoints) > 0 && strings.HasPrefix(endpoints[0], "https://") {
		options = append(options, grpc.WithTransportCredentials(newTellingTLS(tlsConfig, failed)))
	}
	var follow time.Duration
	if e.FollowMembers {
		follow = followMembers
	}
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, AutoSyncInterval: follow, TLS: tlsConfig, Username: user, Password: password,
		DialTimeout: 3 * time.Second, DialKeepAliveTime: alive, DialKeepAliveTimeout: alive,
		Logger: zap.NewNop(), DialOptions: options,
	})
}

// identify gives a new data directory its identity, for which etcd must
// answer; one that has an identity is checked against the cluster's.
func (n *Node) identify(ctx context.Context) error {
	if n.dir.set {
		if meta := n.store.View().Meta; meta != nil && meta.ClusterID != n.dir.id.ClusterID {
			return fmt.Errorf("data directory %s belongs to cluster %s, and etcd holds cluster %s (%q): check --cluster and --etcd-endpoints, or use an empty directory",
				n.cfg.DataDir, n.dir.id.ClusterID, meta.ClusterID, n.cfg.Cluster)
		}
		return nil
	}
	told := false
	for {
		err := n.claim(ctx)
		if err == nil || ctx.Err() != nil || !errors.Is(err, cluster.ErrUnavailable) && !errors.Is(err, cluster.ErrFrozen) {
			return err
		}
		if !told {
			told = true
			n.log.Warn("a new node needs etcd, with this cluster in it, to get its identity; waiting for it", "endpoints", n.cfg.Etcd.Endpoints, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (n *Node) claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	meta, err := n.store.EnsureMeta(ctx)
	if err != nil {
		return err
	}
	id := n.cfg.NodeID
	if id != 0 {
		if err := n.store.ReserveNodeID(ctx, id); err != nil {
			return err
		}
	} else {
		if id, err = n.store.AllocNodeID(ctx); err != nil {
			return err
		}
		n.log.Info("etcd handed out a node id; the data directory keeps it", "node", id)
	}
	return n.dir.claim(meta.ClusterID, id)
}

// advertised is the address that others are told. Empty is the bound address;
// "auto", or an unspecified bound address, is the first address of this host
// that is not loopback.
func advertised(want string, bound net.Addr) (string, error) {
	host, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return "", err
	}
	if want != "" && want != "auto" {
		if strings.HasSuffix(want, ":0") {
			return net.JoinHostPort(strings.TrimSuffix(want, ":0"), port), nil
		}
		return want, nil
	}
	if ip := net.ParseIP(host); want != "auto" && ip != nil && !ip.IsUnspecified() {
		return bound.String(), nil
	}
	ip, err := hostAddress()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(ip, port), nil
}

func hostAddress() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("this host has no address but loopback: say what to advertise")
}
