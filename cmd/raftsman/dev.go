package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/raftsman/raftsman/internal/localetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// devFlags are the settings of raftsman dev.
type devFlags struct {
	nodes     int
	dataDir   string
	host      string
	kafkaPort int
	httpPort  int
	etcdPort  int
	logLevel  string
	logFormat string
}

func newDev() *cobra.Command {
	var d devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run an etcd and three nodes in one process, for laptops and tests",
		Long: `Runs an embedded etcd and three nodes in one process. Node 1 serves Kafka on
127.0.0.1:9092, node 2 on 9093, node 3 on 9094, and etcd listens on
127.0.0.1:2379, so that Kafka clients and etcdctl work without a flag. Topics
are created when a client asks for them. Prints one line when it is ready.`,
		Example: `  raftsman dev
  raftsman dev --data-dir ./data --kafka-port 19092 --http-port 18080 --etcd-port 12379`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.nodes < 1 || d.nodes > 9 {
				return usageError{fmt.Errorf("--nodes is %d: it must be between 1 and 9", d.nodes)}
			}
			for _, p := range []struct {
				flag        string
				port, count int
			}{{"--kafka-port", d.kafkaPort, d.nodes}, {"--http-port", d.httpPort, d.nodes}, {"--etcd-port", d.etcdPort, 1}} {
				if last := 65536 - p.count; p.port < 1 || p.port > last {
					return usageError{fmt.Errorf("%s is %d: it must be between 1 and %d", p.flag, p.port, last)}
				}
			}
			return d.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntVar(&d.nodes, "nodes", 3, "number of nodes")
	f.StringVar(&d.dataDir, "data-dir", "", "directory to keep the data in (default: a temporary one, removed at exit)")
	f.StringVar(&d.host, "host", "127.0.0.1", "address to listen on and to advertise")
	f.IntVar(&d.kafkaPort, "kafka-port", 9092, "Kafka port of node 1; the others follow")
	f.IntVar(&d.httpPort, "http-port", 8080, "HTTP port of node 1; the others follow")
	f.IntVar(&d.etcdPort, "etcd-port", 2379, "etcd's client port")
	f.StringVar(&d.logLevel, "log-level", "warn", "debug, info, warn or error")
	f.StringVar(&d.logFormat, "log-format", "text", "text or json")
	return cmd
}

func (d *devFlags) run(ctx context.Context, out io.Writer) (err error) {
	began := time.Now()
	logger, err := newLogger(os.Stderr, d.logLevel, d.logFormat)
	if err != nil {
		return usageError{err}
	}
	dir, cleanUp, err := d.directory()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()

	etcd, err := d.startEtcd(ctx, dir)
	if err != nil {
		return err
	}
	defer etcd.Close()

	// A node that ends, for whatever reason, ends them all.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		wg    sync.WaitGroup
		nodes []*node.Node
		ended = make(chan error, d.nodes)
	)
	defer wg.Wait()
	defer stop()
	for i := range d.nodes {
		cfg := node.Config{
			NodeID: int32(i + 1), DataDir: filepath.Join(dir, fmt.Sprintf("node-%d", i+1)), Version: version(),
			Listeners: []node.KafkaListener{{Name: "default", Addr: d.addr(d.kafkaPort, i), Advertise: d.advertise(d.kafkaPort, i)}},
			HTTPAddr:  d.addr(d.httpPort, i), HTTPAdvertise: d.advertise(d.httpPort, i),
			PeerAddr: d.addr(0, 0), AutoCreateTopics: true, PprofEnabled: true,
			DrainTimeout: -1, // all nodes stop together
			Groups:       node.Groups{InitialRebalanceDelay: -1},
			Logger:       logger.With("node", i+1),
		}
		observe(&cfg)
		cfg.Etcd.Endpoints = []string{"http://" + d.addr(d.etcdPort, 0)}
		n, err := node.New(cfg)
		if err != nil {
			for _, n := range nodes {
				err = errors.Join(err, n.Close())
			}
			return d.explain(err, i)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		wg.Go(func() { ended <- n.Run(ctx) })
	}
	for _, n := range nodes {
		select {
		case <-n.Ready():
		case err := <-ended:
			return err // nil when ctx ended first
		}
	}
	if err := d.waitForPeers(ctx, nodes); err != nil {
		return nil // stopped before it was ready
	}
	fmt.Fprintf(out, "ready in %.1fs: kafka %s; http %s; etcd %s; data %s\n", time.Since(began).Seconds(),
		d.list(d.kafkaPort), d.list(d.httpPort), d.addr(d.etcdPort, 0), dir)
	err = <-ended
	stop()
	for range len(nodes) - 1 {
		err = errors.Join(err, <-ended)
	}
	return err
}

// directory returns where to keep the data, and what to do with it at the end.
func (d *devFlags) directory() (dir string, cleanUp func() error, err error) {
	if d.dataDir == "" {
		dir, err = os.MkdirTemp("", "raftsman-dev-")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	dir, err = filepath.Abs(d.dataDir)
	if err == nil {
		err = os.MkdirAll(dir, 0o750)
	}
	return dir, func() error { return nil }, err
}

// addr is the address at a base port for the i-th node; port 0 is any.
func (d *devFlags) addr(base, i int) string {
	if base != 0 {
		base += i
	}
	return net.JoinHostPort(d.host, fmt.Sprint(base))
}

// advertise is what clients are told of addr: the host as it was given, unless
// it stands for every address of this machine.
func (d *devFlags) advertise(base, i int) string {
	if ip := net.ParseIP(d.host); d.host == "" || ip != nil && ip.IsUnspecified() {
		return ""
	}
	return d.addr(base, i)
}

func (d *devFlags) list(base int) string {
	addrs := make([]string, d.nodes)
	for i := range addrs {
		addrs[i] = d.addr(base, i)
	}
	return strings.Join(addrs, ",")
}

// explain names the flag of dev for a port that a node could not take.
func (d *devFlags) explain(err error, i int) error {
	switch {
	case strings.Contains(err.Error(), d.addr(d.kafkaPort, i)):
		return fmt.Errorf("%w; choose other ports with --kafka-port", err)
	case strings.Contains(err.Error(), d.addr(d.httpPort, i)):
		return fmt.Errorf("%w; choose other ports with --http-port", err)
	}
	return err
}

// waitForPeers waits until every node has registered and can reach the others:
// topics get all their replicas from the first one on.
func (d *devFlags) waitForPeers(ctx context.Context, nodes []*node.Node) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		all := true
		for _, n := range nodes {
			all = all && n.Reaches(d.nodes)
		}
		if all {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// startEtcd runs an etcd member in this process.
func (d *devFlags) startEtcd(ctx context.Context, dir string) (*embed.Etcd, error) {
	addr := d.addr(d.etcdPort, 0)
	if ln, err := net.Listen("tcp", addr); err != nil {
		return nil, fmt.Errorf("can't listen on %s for etcd: %w; choose another port with --etcd-port", addr, err)
	} else if err := ln.Close(); err != nil {
		return nil, err
	}
	return localetcd.Start(ctx, addr, filepath.Join(dir, "etcd"))
}
