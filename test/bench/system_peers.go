package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sys/unix"
)

// startJetStream starts three servers; interval is their sync_interval, "" their default.
func startJetStream(ctx context.Context, cfg *config, ps *processes, interval string) (client, error) {
	ports, err := freePorts(2 * 3)
	if err != nil {
		return nil, err
	}
	var addrs, routes []string
	for i := range 3 {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", ports[i]))
		routes = append(routes, fmt.Sprintf("%q", fmt.Sprintf("nats-route://127.0.0.1:%d", ports[3+i])))
	}
	if interval != "" {
		interval = ", sync_interval: " + interval
	}
	for i := range 3 {
		name := strconv.Itoa(i + 1)
		conf := fmt.Sprintf("server_name: %q\nlisten: %q\njetstream { store_dir: %q, max_file_store: %d%s }\n"+
			"cluster { name: bench, listen: \"127.0.0.1:%d\", routes: [%s] }\n",
			name, addrs[i], filepath.Join(ps.dir, "node-"+name), 2*cfg.retain+8<<30, interval, ports[3+i], strings.Join(routes, ", "))
		path := filepath.Join(ps.dir, name+".conf")
		if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
			return nil, err
		}
		if err := ps.spawn("node", "node-"+name, cfg.binary("nats-server"), "-c", path); err != nil {
			return nil, err
		}
	}
	c := &jsClient{addrs: addrs}
	err = ps.until(ctx, "three JetStream servers with a leader", time.Minute, func(ctx context.Context) (err error) {
		if c.nc == nil {
			if c.nc, c.js, err = c.dial(0); err != nil {
				return err
			}
		}
		_, err = c.js.AccountInfo(ctx)
		return err
	})
	if err != nil && c.nc != nil {
		c.close()
	}
	return c, err
}

func jetStreamVersion(ctx context.Context, cfg *config) (string, error) {
	return output(ctx, cfg.binary("nats-server"), "--version")
}

// startKfake starts this program anew as a server: its CPU is then not the client's.
func startKfake(ctx context.Context, _ *config, ps *processes) (client, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := ps.spawn("node", "kfake", self, kfakeCommand, strconv.Itoa(ports[0])); err != nil {
		return nil, err
	}
	k, err := newKafkaClient([]string{fmt.Sprintf("127.0.0.1:%d", ports[0])}, 0)
	if err != nil {
		return nil, err
	}
	err = ps.until(ctx, "kfake", time.Minute, func(ctx context.Context) error {
		_, err := k.adm.BrokerMetadata(ctx)
		return err
	})
	if err != nil {
		k.close()
		return nil, err
	}
	return memoryClient{k}, nil
}

// kfakeCommand is the command by which this program is kfake.
const kfakeCommand = "serve-kfake"

// serveKfake serves until it is killed. It looks for what retention removes each second: it holds
// all in memory.
func serveKfake(port string) error {
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(n),
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": "1000"}))
	if err != nil {
		return err
	}
	slog.Info("kfake listens", "addr", net.JoinHostPort("127.0.0.1", port))
	defer c.Close()
	select {}
}

// memoryClient keeps an in-memory server within an eighth of the machine's memory.
type memoryClient struct{ *kafkaClient }

func (m memoryClient) create(ctx context.Context, partitions int, retain int64) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	return m.kafkaClient.create(ctx, partitions, min(retain, int64(info.Totalram*uint64(info.Unit)/8)))
}

func kfakeVersion(context.Context, *config) (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", fmt.Errorf("this program does not know its modules: build it with `go build`")
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/twmb/franz-go/pkg/kfake" {
			return dep.Version, nil
		}
	}
	return "", fmt.Errorf("this program was built without kfake")
}
