// Package testetcd runs etcd inside a test: one member or several, on ports
// and directories that survive a restart, silent, and quick (10 ms ticks, no
// fsync: a stopped member keeps its data, a crashed machine would not).
//
// Ports come from below the range from which the kernel numbers outgoing
// connections. A port from inside that range could be taken while a member is
// stopped, and a client that redials it could even connect to itself.
package testetcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

const (
	lowPort, highPort = 20000, 32000
	readyTimeout      = 30 * time.Second
	startAttempts     = 10
)

// Server is one member. Its methods are for one goroutine at a time.
type Server struct {
	name               string
	dir                string
	clientURL, peerURL url.URL // what clients and peers dial
	innerURL           url.URL // where etcd listens for clients, behind the proxy
	initialCluster     string
	token              string // part of what etcd makes its cluster id of
	electionMs         uint
	etcd               *embed.Etcd // nil while stopped
	proxy              *proxy      // nil while stopped or cut off
	frozen             bool
}

// Start runs a cluster of one member until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartCluster(t, 1)[0]
}

// Reserve prepares a single member without starting it: its endpoint is known
// and nothing listens there until Restart.
func Reserve(t testing.TB) *Server {
	t.Helper()
	s, err := plan(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s[0].Stop)
	return s[0]
}

// StartCluster runs a cluster of n members until the test ends.
func StartCluster(t testing.TB, n int) []*Server {
	t.Helper()
	servers, err := Open(t.TempDir(), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range servers {
			s.Stop()
		}
	})
	return servers
}

// Open starts n new members with their data below dir and returns when each
// serves. The caller stops them.
func Open(dir string, n int) ([]*Server, error) {
	var err error
	for range startAttempts { // a chosen port can be taken before it is used
		var servers []*Server
		if servers, err = plan(dir, n); err != nil {
			return nil, err
		}
		if err = startAll(servers); err == nil {
			return servers, nil
		}
		for _, s := range servers {
			s.Stop()
			os.RemoveAll(s.dir)
		}
	}
	return nil, err
}

// plan chooses the ports and names of n members.
func plan(dir string, n int) ([]*Server, error) {
	servers := make([]*Server, n)
	var initial []string
	taken := map[int]bool{}
	for i := range servers {
		client, err := freePort(taken)
		if err != nil {
			return nil, err
		}
		peer, err := freePort(taken)
		if err != nil {
			return nil, err
		}
		inner, err := freePort(taken)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("m%d", i+1)
		servers[i] = &Server{
			name: name, dir: filepath.Join(dir, name), electionMs: 100,
			clientURL: local(client), innerURL: local(inner), peerURL: local(peer),
		}
		if n > 1 {
			servers[i].electionMs = 500 // two cores under the race detector stall for longer than 100 ms
		}
		initial = append(initial, name+"="+servers[i].peerURL.String())
	}
	for _, s := range servers {
		s.initialCluster = strings.Join(initial, ",")
	}
	return servers, nil
}

func local(port int) url.URL {
	return url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
}

func freePort(taken map[int]bool) (int, error) {
	for range 1000 {
		port := lowPort + rand.IntN(highPort-lowPort)
		if taken[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		taken[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d", lowPort, highPort)
}

// startAll starts members together: none is ready before a majority runs.
func startAll(servers []*Server) error {
	for _, s := range servers {
		if err := s.launch(); err != nil {
			return err
		}
	}
	for _, s := range servers {
		if err := s.waitReady(); err != nil {
			return err
		}
	}
	for _, s := range servers {
		if err := s.mend(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) launch() error {
	cfg := embed.NewConfig()
	cfg.Name = s.name
	cfg.Dir = s.dir
	cfg.TickMs = 10
	cfg.ElectionMs = s.electionMs
	cfg.UnsafeNoFsync = true
	cfg.GRPCKeepAliveMinTime = 100 * time.Millisecond
	cfg.ListenClientUrls = []url.URL{s.innerURL}
	cfg.AdvertiseClientUrls = []url.URL{s.clientURL}
	cfg.ListenPeerUrls = []url.URL{s.peerURL}
	cfg.AdvertisePeerUrls = []url.URL{s.peerURL}
	cfg.InitialCluster = s.initialCluster
	if s.token != "" {
		cfg.InitialClusterToken = s.token
	}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd %s on %s: %w", s.name, s.clientURL.Host, err)
	}
	s.etcd = e
	return nil
}

func (s *Server) waitReady() error {
	timer := time.NewTimer(readyTimeout)
	defer timer.Stop()
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case err := <-s.etcd.Err():
		return fmt.Errorf("etcd %s: %w", s.name, err)
	case <-timer.C:
		return fmt.Errorf("etcd %s is not ready after %s", s.name, readyTimeout)
	}
}

// Cut breaks every client's connection to the member and refuses new ones,
// until Mend. Peers still reach it.
func (s *Server) Cut() {
	s.Thaw()
	if s.proxy != nil {
		s.proxy.close()
		s.proxy = nil
	}
}

// Mend undoes Cut.
func (s *Server) Mend(t testing.TB) {
	t.Helper()
	if err := s.mend(); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) mend() (err error) {
	if s.proxy == nil {
		s.proxy, err = newProxy(s.clientURL.Host, s.innerURL.Host)
	}
	return err
}

// Freeze lets no byte pass between the clients and the member, and keeps
// their connections open, as if its process were stopped. Until Thaw.
func (s *Server) Freeze() {
	if s.proxy != nil && !s.frozen {
		s.proxy.frozen.Lock()
		s.frozen = true
	}
}

// Thaw undoes Freeze.
func (s *Server) Thaw() {
	if s.frozen {
		s.proxy.frozen.Unlock()
		s.frozen = false
	}
}

// Stop ends the member and frees its ports; data stays. Stopping a stopped
// member does nothing.
func (s *Server) Stop() {
	s.Cut()
	if s.etcd == nil {
		return
	}
	s.etcd.Close()
	s.etcd = nil
}

// Restart starts a stopped member on its old ports and data. A member of a
// cluster without a majority is not ready before another one runs too: start
// those with RestartAll.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	RestartAll(t, s)
}

// RestartAll starts stopped members together.
func RestartAll(t testing.TB, servers ...*Server) {
	t.Helper()
	if err := startAll(servers); err != nil {
		t.Fatal(err)
	}
}

// Wipe removes the data of a stopped member: after a restart it is another
// etcd on the same address.
func (s *Server) Wipe(t testing.TB) {
	t.Helper()
	if s.etcd != nil {
		t.Fatal("BUG: wiping a running member")
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
}

// Dir is where the member keeps its data.
func (s *Server) Dir() string { return s.dir }

// Rename gives a stopped and wiped member another name, and with it, after
// the restart, another etcd cluster id. For clusters of one.
func (s *Server) Rename(name string) {
	s.initialCluster = strings.Replace(s.initialCluster, s.name+"=", name+"=", 1)
	s.name = name
	s.token = name
}

// Inner is an address that Cut and Freeze don't affect, as a URL.
func (s *Server) Inner() string { return s.innerURL.String() }

// Endpoint is the address for clients, as a URL.
func (s *Server) Endpoint() string { return s.clientURL.String() }

// Client returns a client of all the given members that lives as long as the
// test. It dials in the background, so the members need not run yet, and
// redials at least every 200 ms.
func Client(t testing.TB, servers ...*Server) *clientv3.Client {
	t.Helper()
	var endpoints []string
	for _, s := range servers {
		endpoints = append(endpoints, s.Endpoint())
	}
	c, err := clientv3.New(ClientConfig(endpoints...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Client returns a client of this member alone.
func (s *Server) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	return Client(t, s)
}

// ClientConfig is what Client uses.
func ClientConfig(endpoints ...string) clientv3.Config {
	return clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          5 * time.Second,
		DialKeepAliveTime:    time.Second,
		DialKeepAliveTimeout: time.Second,
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		})},
	}
}

// Eventually polls a condition until it holds, and fails the test when it
// does not within a generous time.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
