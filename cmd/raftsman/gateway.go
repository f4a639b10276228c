package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/raftsman/raftsman/internal/cluster"
	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/httpgateway"
	"github.com/raftsman/raftsman/internal/kafka"
	"github.com/raftsman/raftsman/internal/kafkagateway"
	"github.com/raftsman/raftsman/pkg/node"
)

const (
	seedTimeout  = 2 * time.Second  // for etcd to say where nodes are
	gatewayAlive = 10 * time.Second // the client notices a dead endpoint in time for a lease of this life
)

// gatewayFlags are the settings of raftsman gateway.
type gatewayFlags struct {
	etcd      nodeFlags // etcd's part of it, and the log's
	nodes     []string
	httpNodes []string
	listener  string
	addr      string
	advertise string
	limits    kafka.Limits
	http      httpgateway.Limits
}

func newGateway() *cobra.Command {
	var g gatewayFlags
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Put a cluster behind one address for Kafka and HTTP clients",
		Long: `Serves the Kafka protocol as if it were the only broker of the cluster, and forwards
each part of a request to the node that leads or coordinates it. It keeps nothing: run
as many as you like, behind one balancer that --advertise names. On its HTTP address it
sends what is asked of the HTTP gateway, and of operators' paths, on to nodes that are ready.

The nodes' addresses are read from etcd, or given with --nodes and, for HTTP,
--http-nodes. Both may be given: with these a gateway starts while etcd is away. Once it knows the nodes it needs no etcd.`,
		Example: `  raftsman gateway --nodes 10.0.0.1:9092,10.0.0.2:9092 --addr 0.0.0.0:9092 --advertise kafka.example.com:9092
  raftsman gateway --etcd-endpoints http://10.0.0.1:2379 --addr 0.0.0.0:9092 --advertise auto`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return g.run(cmd) },
	}
	f := cmd.Flags()
	c := &g.etcd.cfg
	f.StringSliceVar(&g.nodes, "nodes", nil, "Kafka addresses of one or more nodes, HOST:PORT,...; the others are found through them")
	f.StringVar(&g.listener, "node-listener", node.DefaultListener, "name of the nodes' Kafka listener that the gateway connects to, where etcd tells their addresses")
	f.StringVar(&g.addr, "addr", "127.0.0.1:9092", "address to serve the Kafka protocol on")
	f.StringVar(&g.advertise, "advertise", "", "address that clients are told, such as the balancer's; auto is this host's first address that is not loopback (default: the bound one)")
	f.StringVar(&c.HTTPAddr, "http-addr", "127.0.0.1:8080", "address to serve HTTP on: health, metrics, the HTTP gateway")
	f.StringSliceVar(&g.httpNodes, "http-nodes", nil, "HTTP addresses of one or more nodes, HOST:PORT,...; the others are found through them")
	f.IntVar(&g.http.MaxRequestBytes, "http-max-request-bytes", 4<<20, "bytes of a request to the HTTP gateway")
	f.IntVar(&g.http.MaxRequests, "http-max-requests", 256, "requests to the HTTP gateway that are answered at once, and as many streams beside them; further ones are refused")
	f.StringSliceVar(&g.http.AllowedHosts, "http-allowed-hosts", nil, "names by which the HTTP gateway may be called, besides addresses, localhost and the host's own; * is any")
	f.StringSliceVar(&g.http.AllowedOrigins, "http-allowed-origins", nil, "web pages elsewhere that may call the HTTP gateway, such as https://ops.example.com; * is any")
	f.StringVar(&c.Cluster, "cluster", "default", "name of the cluster, part of its keys in etcd")
	f.StringSliceVar(&c.Etcd.Endpoints, "etcd-endpoints", nil, "etcd's client URLs (default: none with --nodes, else http://127.0.0.1:2379)")
	f.StringVar(&c.Etcd.DiscoverySRV, "etcd-discovery-srv", "", "domain whose SRV records name etcd, instead of endpoints")
	f.StringVar(&c.Etcd.Prefix, "etcd-prefix", "/raftsman", "prefix of all keys in etcd")
	f.StringVar(&c.Etcd.CACert, "etcd-cacert", "", "CA certificate that verifies etcd, PEM file")
	f.StringVar(&c.Etcd.Cert, "etcd-cert", "", "client certificate for etcd, PEM file")
	f.StringVar(&c.Etcd.Key, "etcd-key", "", "key of the client certificate, PEM file")
	f.StringVar(&c.Etcd.User, "etcd-user", "", "etcd user, as NAME or NAME:PASSWORD")
	f.StringVar(&c.Etcd.PasswordFile, "etcd-password-file", "", "file with the etcd user's password")
	f.IntVar(&g.limits.MaxConnections, "kafka-max-connections", 10_000, "connections of clients; further ones are refused")
	f.Int64Var(&g.limits.MaxRequestMemory, "kafka-max-request-memory", 512<<20, "bytes of all Kafka requests in flight; a request waits unread until it fits")
	f.Int64Var(&g.limits.MaxResponseMemory, "kafka-max-response-memory", 512<<20, "bytes of all answers of nodes that clients have not taken yet; a node's answer waits until it fits")
	f.BoolVar(&c.PprofEnabled, "pprof", false, "serve /debug/pprof/ on the HTTP address")
	g.etcd.bindLog(f)
	return cmd
}

func (g *gatewayFlags) run(cmd *cobra.Command) error {
	// A node's configuration file has keys that this command does not know.
	from, err := layer(cmd, os.DevNull, false, "output")
	if err != nil {
		return err
	}
	log, err := newLogger(os.Stderr, g.etcd.logLevel, g.etcd.logFormat)
	if err != nil {
		return usageError{err}
	}
	for flag, addrs := range map[string][]string{"--nodes": g.nodes, "--http-nodes": g.httpNodes} {
		for _, addr := range addrs {
			if _, _, err := net.SplitHostPort(addr); err != nil {
				return usageError{fmt.Errorf("%s %q: use HOST:PORT", flag, addr)}
			}
		}
	}
	if g.http.MaxRequestBytes < 1<<10 || g.http.MaxRequests < 1 {
		return usageError{errors.New("--http-max-request-bytes must be at least 1024, and --http-max-requests at least 1")}
	}
	etcd, keys, err := g.dialEtcd(from)
	if err != nil {
		return usageError{err}
	}
	if etcd != nil {
		defer etcd.Close()
	}
	ln, err := net.Listen("tcp", g.addr)
	if err != nil {
		return fmt.Errorf("can't listen on %s (--addr): %w", g.addr, err)
	}
	defer ln.Close()
	told, err := node.Advertised(g.advertise, ln.Addr())
	if err != nil {
		return usageError{fmt.Errorf("--advertise: %w", err)}
	}
	httpLn, err := net.Listen("tcp", g.etcd.cfg.HTTPAddr)
	if err != nil {
		return fmt.Errorf("can't listen on %s (--http-addr): %w", g.etcd.cfg.HTTPAddr, err)
	}
	defer httpLn.Close()
	registry := newRegistry()
	listener := g.listener
	kafkaSeeds := &nodeSeeds{nodes: g.nodes, of: func(n cluster.Node) string { return kafkaOf(n, listener) }, etcd: etcd, keys: keys, log: log}
	webSeeds := &nodeSeeds{nodes: g.httpNodes, of: func(n cluster.Node) string { return n.HTTP }, etcd: etcd, keys: keys, log: log}
	proxy, err := httpgateway.NewProxy(httpgateway.ProxyOptions{Seeds: webSeeds.addresses, Limits: g.http, Logger: log})
	if err != nil {
		return err
	}
	kg, err := kafkagateway.New(kafkagateway.Options{
		Listeners: []kafka.Listener{{Name: "gateway", Net: ln, Advertised: told}},
		Seeds:     kafkaSeeds.addresses, Logger: log, Limits: g.limits, Registerer: registry,
	})
	if err != nil {
		return usageError{err}
	}
	hg, err := gateway.New(gateway.Options{
		Listener: httpLn, Ready: kg.Ready, ClusterJSON: proxy.ClusterJSON, Gatherer: prometheus.Gatherer(registry), Pprof: g.etcd.cfg.PprofEnabled,
		Logger: log, API: proxy.Handler(), APIPaths: httpgateway.ProxyPaths(),
	})
	if err != nil {
		return err
	}
	log.Info("serving", "kafka", ln.Addr().String(), "advertised", told, "http", httpLn.Addr().String())
	return together(cmd.Context(), kg.Run, hg.Run, proxy.Run)
}

// together runs all until ctx ends or one of them has ended.
func together(ctx context.Context, runs ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(runs))
	for i, run := range runs {
		wg.Go(func() {
			defer cancel()
			errs[i] = run(ctx)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// dialEtcd makes a client of etcd if there is to be one. etcd need not answer.
func (g *gatewayFlags) dialEtcd(from origins) (*clientv3.Client, cluster.Keys, error) {
	g.etcd.chooseEtcd(from)
	e := &g.etcd.cfg.Etcd
	keys, err := cluster.NewKeys(e.Prefix, g.etcd.cfg.Cluster)
	if err != nil {
		return nil, keys, err
	}
	if len(e.Endpoints) == 0 && e.DiscoverySRV == "" {
		if len(g.nodes) > 0 {
			return nil, keys, nil
		}
		e.Endpoints = []string{"http://127.0.0.1:2379"}
	}
	client, err := node.DialEtcd(*e, gatewayAlive)
	return client, keys, err
}

// nodeSeeds are where nodes may be.
type nodeSeeds struct {
	nodes []string                  // told
	of    func(cluster.Node) string // the address of a node; "": none
	etcd  *clientv3.Client          // may be nil
	keys  cluster.Keys
	log   *slog.Logger

	last []string // what etcd said; one goroutine asks
}

// addresses are those that were told and those that are in etcd, or were there when
// it answered last.
func (s *nodeSeeds) addresses(ctx context.Context) ([]string, error) {
	if s.etcd == nil {
		return s.nodes, nil
	}
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	resp, err := s.etcd.Get(ctx, s.keys.Base()+"nodes/", clientv3.WithPrefix())
	if err == nil {
		s.last = nil
		for _, kv := range resp.Kvs {
			if addr := s.address(kv.Value); addr != "" {
				s.last = append(s.last, addr)
			}
		}
	} else {
		err = fmt.Errorf("ask etcd where the nodes are: %w", err)
	}
	all := slices.Clone(s.nodes)
	for _, addr := range s.last {
		if !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	if len(all) > 0 && err != nil {
		s.log.Debug("etcd does not answer", "err", err)
		err = nil
	}
	return all, err
}

// address is the one that is wanted of a registration.
func (s *nodeSeeds) address(registration []byte) string {
	var n cluster.Node
	if err := json.Unmarshal(registration, &n); err != nil {
		return ""
	}
	return s.of(n)
}

// kafkaOf is a node's address on a listener.
func kafkaOf(n cluster.Node, listener string) string {
	if addr := n.Listeners[listener]; addr != "" {
		return addr
	}
	if listener == node.DefaultListener {
		return n.Kafka
	}
	return ""
}
