//go:build system

package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lan is machines in namespaces on one bridge, each with a node that was told
// nothing but how to look for the others.
type lan struct {
	*cluster
	lab *lab
}

// newLAN makes n machines without a node.
func newLAN(t *testing.T, n int) *lan {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	l := &lan{cluster: c}
	l.lab = newLab(t, n, func() {
		for _, p := range c.nodes {
			if p.cmd != nil {
				_ = p.cmd.Process.Signal(syscall.SIGCONT)
				p.cleanUp()
			}
		}
		if t.Failed() {
			for _, p := range c.nodes {
				out := p.logs()
				t.Logf("%s wrote at last:\n%s", p.name, out[max(0, len(out)-6000):])
			}
		}
	})
	for id := 1; id <= n; id++ {
		c.kafka = append(c.kafka, l.lab.ip(id)+":9092")
		c.http = append(c.http, l.lab.ip(id)+":8080")
		c.etcdURL = append(c.etcdURL, "http://"+l.lab.ip(id)+":2379")
		dir := filepath.Join(c.dir, fmt.Sprintf("machine-%d", id))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, &process{t: t, name: fmt.Sprintf("machine-%d", id), dir: dir, log: filepath.Join(c.dir, fmt.Sprintf("machine-%d.log", id))})
	}
	return l
}

// run starts a node on a machine; the command is the same wherever it runs.
func (l *lan) run(id int, args ...string) {
	l.t.Helper()
	p := l.node(id)
	p.args = append([]string{"ip", "netns", "exec", l.lab.ns(id), binary(l.t, "raftsman"), "serve", "--data-dir", "data"}, args...)
	p.start()
}

// state is what a node says in /cluster.json.
type lanState struct {
	ClusterID string   `json:"cluster_id"`
	Etcd      []string `json:"etcd"`
	OwnEtcd   bool     `json:"own_etcd"`
	Nodes     []struct {
		Node int `json:"node"`
	} `json:"nodes"`
	Others []struct {
		ClusterID string `json:"cluster_id"`
	} `json:"other_clusters"`
	Self struct {
		Node int `json:"node"`
	} `json:"self"`
}

func (l *lan) state(id int) (s lanState, err error) {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get("http://" + l.http[id-1] + "/cluster.json")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// members are etcd's, as one machine's member lists them: those with a vote, and all.
func (l *lan) members(id int) (voters, all int) {
	ctx, cancel := context.WithTimeout(l.t.Context(), 3*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(l.t, "etcdctl"), "--endpoints", l.etcdURL[id-1], "member", "list", "-w", "json")
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	out, err := cmd.Output()
	if err != nil {
		return 0, 0
	}
	var list struct {
		Members []struct {
			Name      string `json:"name"`
			IsLearner bool   `json:"isLearner"`
		} `json:"members"`
	}
	if json.Unmarshal(out, &list) != nil {
		return 0, 0
	}
	for _, m := range list.Members {
		if m.Name != "" && !m.IsLearner {
			voters++
		}
	}
	return voters, len(list.Members)
}

// awaitOne waits until machines 1 to n are one cluster, with three members of etcd.
func (l *lan) awaitOne(n int) (clusterID string) {
	l.t.Helper()
	defer func() {
		if l.t.Failed() {
			for id := 1; id <= n; id++ {
				s, err := l.state(id)
				voters, all := l.members(id)
				l.t.Logf("machine %d: %+v, %v; %d of %d members of etcd have a vote", id, s, err, voters, all)
			}
		}
	}()
	waitFor(l.t, fmt.Sprintf("one cluster of %d nodes and three members of etcd", n), 4*time.Minute, func() bool {
		for id := 1; id <= n; id++ {
			s, err := l.state(id)
			if err != nil || len(s.Nodes) < n || !s.OwnEtcd || len(s.Etcd) != 3 {
				return false
			}
			if clusterID == "" {
				clusterID = s.ClusterID
			}
			if s.ClusterID != clusterID {
				l.t.Fatalf("machine %d is of cluster %s, another one of %s", id, s.ClusterID, clusterID)
			}
			if len(s.Nodes) > n || len(s.Others) > 0 {
				l.t.Fatalf("machine %d: %+v", id, s)
			}
		}
		for id := 1; id <= min(n, 3); id++ {
			voters, all := l.members(id)
			if all > 3 {
				l.t.Fatalf("machine %d sees %d members of etcd", id, all)
			}
			if voters != 3 {
				return false
			}
		}
		return true
	})
	return clusterID
}

// disturb stops and continues nodes at random until the returned function is called.
func (l *lan) disturb(n int, longest time.Duration) (calm func()) {
	stop := make(chan struct{})
	var all sync.WaitGroup
	for id := 1; id <= n; id++ {
		p := l.node(id)
		all.Go(func() {
			wait := func(d time.Duration) bool {
				select {
				case <-stop:
					return false
				case <-time.After(d):
					return true
				}
			}
			for range 3 {
				if !wait(rand.N(4 * time.Second)) {
					return
				}
				_ = p.cmd.Process.Signal(syscall.SIGSTOP) // "ip netns exec" has become the node
				wait(rand.N(longest))
				_ = p.cmd.Process.Signal(syscall.SIGCONT)
			}
		})
	}
	return sync.OnceFunc(func() { close(stop); all.Wait() })
}

// TestThreeMachinesOneCommand starts the same command on three machines, at once and
// one after the other, with delays between the steps of the first node's choice and
// processes that are stopped at random: it is always one cluster.
func TestThreeMachinesOneCommand(t *testing.T) {
	t.Parallel()
	for round := range repetitions(1) {
		for _, way := range []string{"at once", "one after the other"} {
			t.Run(fmt.Sprintf("%s %d", way, round+1), func(t *testing.T) {
				t.Parallel()
				l := newLAN(t, 3)
				began := time.Now()
				for i, id := range rand.Perm(3) {
					if way == "at once" {
						time.Sleep(rand.N(333 * time.Millisecond)) // that is the test
					} else if i == 1 {
						waitFor(t, "somebody to be there", 3*time.Minute, func() bool { return slices.ContainsFunc([]int{1, 2, 3}, l.serves) })
					}
					l.run(id+1, "--discover", "--bootstrap", "--discover-test-delay", []string{"1s", "4s", "12s"}[round%3])
				}
				calm := func() {}
				if way == "at once" && round%2 == 0 {
					calm = l.disturb(3, 6*time.Second)
				}
				defer calm()
				id := l.awaitOne(3)
				t.Logf("one cluster (%s) of three nodes and three members after %v", id, time.Since(began).Round(100*time.Millisecond))
			})
		}
	}
}

func (l *lan) serves(id int) bool {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get("http://" + l.http[id-1] + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// TestLANClusterLosesAnyOne lets a fourth node join through the second, and kills
// each of the first three in turn: records are written and read and topics are made
// meanwhile, and the killed one comes back as what it was. Then one is decommissioned,
// and the fourth takes its place in etcd.
func TestLANClusterLosesAnyOne(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLAN(t, 4)
	for id := 1; id <= 3; id++ {
		l.run(id, "--discover", "--bootstrap", "--cluster-secret-file", secret)
	}
	clusterID := l.awaitOne(3)
	l.run(4, "--join", l.http[1], "--cluster-secret-file", secret)
	if id := l.awaitOne(4); id != clusterID {
		t.Fatalf("the fourth made it cluster %s, it was %s", id, clusterID)
	}
	if _, err := os.Stat(filepath.Join(l.node(4).dir, "data", "etcd")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the fourth has a member of etcd: %v", err)
	}
	l.create("before", 3)
	for id := 1; id <= 3; id++ {
		l.node(id).kill()
		topic := fmt.Sprintf("without-%d", id)
		// While etcd chooses another leader the answer is to try again.
		waitFor(t, "a topic to be made", 30*time.Second, func() bool {
			out, err := l.raftsman("topic", "create", topic, "--partitions", "3")
			return err == nil || strings.Contains(out, "TOPIC_ALREADY_EXISTS")
		})
		for _, to := range []string{"before", topic} {
			sent := fmt.Sprintf("%s-%d", to, id)
			waitFor(t, "a record to be written", 30*time.Second, func() bool { return l.produceOne(to, sent) == nil })
			out, err := l.raftsman("consume", to)
			if err != nil || !strings.Contains(out, sent) {
				t.Errorf("without machine %d: consume %s: %v\n%s", id, to, err, out)
			}
		}
		l.node(id).start()
		waitFor(t, "the killed node to serve again", time.Minute, func() bool { return l.serves(id) })
		if again := l.awaitOne(4); again != clusterID {
			t.Fatalf("after a restart it is cluster %s, it was %s", again, clusterID)
		}
	}
	// All at once: they come back without anybody to ask.
	for _, p := range l.nodes {
		p.kill()
	}
	for _, p := range l.nodes {
		p.start()
	}
	if again := l.awaitOne(4); again != clusterID {
		t.Fatalf("after all were killed it is cluster %s, it was %s", again, clusterID)
	}
	l.retires(3)
}

// retires decommissions a machine's node, which is a member of etcd: machine 4 takes
// its place there.
func (l *lan) retires(id int) {
	l.t.Helper()
	s, err := l.state(id)
	if err != nil {
		l.t.Fatal(err)
	}
	if out, err := l.raftsman("node", "decommission", fmt.Sprint(s.Self.Node), "--yes", "--http", l.http[0]); err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}
	has := func(id int) bool {
		_, err := os.Stat(filepath.Join(l.node(id).dir, "data", "etcd"))
		return err == nil
	}
	waitFor(l.t, "machine 4 to take a place in etcd", time.Minute, func() bool {
		voters, all := l.members(1)
		return voters == 3 && all == 3 && !has(id) && has(4)
	})
	if s, err := l.state(id); err != nil || len(s.Nodes) != 4 {
		l.t.Errorf("the decommissioned node does not go on: %+v, %v", s, err)
	}
}

// TestFoundBesideAnEtcd: nodes find a cluster that was told where its etcd is, on the
// network and through a node. They become clients of that etcd, and stay that when they
// are started without being told anything.
func TestFoundBesideAnEtcd(t *testing.T) {
	l := newLAN(t, 3)
	client, peer := l.etcdURL[0], "http://"+l.lab.ip(1)+":2380"
	e := l.spawn("etcd", "ip", "netns", "exec", l.lab.ns(1), binary(t, "etcd"), "--name", "e", "--data-dir", filepath.Join(t.TempDir(), "etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "e="+peer)
	t.Cleanup(e.cleanUp)
	ip := l.lab.ip(1)
	l.run(1, "--etcd-endpoints", client, "--discoverable", "--kafka-addr", ip+":9092", "--http-addr", ip+":8080", "--peer-addr", ip+":7070")
	waitFor(t, "the first node to serve", time.Minute, func() bool { return l.serves(1) })
	l.run(2, "--discover")
	l.run(3, "--join", l.http[0])
	one := func() bool {
		for id := 1; id <= 3; id++ {
			s, err := l.state(id)
			if err != nil || len(s.Nodes) != 3 || s.OwnEtcd || !slices.Equal(s.Etcd, []string{client}) {
				return false
			}
		}
		return true
	}
	waitFor(t, "one cluster beside the etcd", time.Minute, one)
	for id := 2; id <= 3; id++ {
		l.node(id).kill()
		l.run(id)
		waitFor(t, "the restarted node to serve", time.Minute, func() bool { return l.serves(id) })
		if _, err := os.Stat(filepath.Join(l.node(id).dir, "data", "etcd")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("machine %d runs an etcd: %v", id, err)
		}
	}
	waitFor(t, "one cluster again", time.Minute, one)
	l.create("lines", 3)
	waitFor(t, "a record to be written", 30*time.Second, func() bool { return l.produceOne("lines", "hello") == nil })
}

func (l *lan) produceOne(topic, record string) error {
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(l.t, "raftsman"), "produce", topic)
	cmd.Env = append(plainEnv(), "RAFTSMAN_BROKERS="+strings.Join(l.kafka, ","))
	cmd.Stdin = strings.NewReader(record + "\n")
	return cmd.Run()
}

// TestNobodyOnTheLAN: without --bootstrap a node that finds nobody says so and ends.
func TestNobodyOnTheLAN(t *testing.T) {
	t.Parallel()
	l := newLAN(t, 2)
	l.run(1, "--discover", "--discover-timeout", "2s")
	<-l.node(1).done
	out := l.node(1).logs()
	if code := l.node(1).cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(out, "no node answered on 239.255.77.77:7077 (interface eth0)") || !strings.Contains(out, "--bootstrap") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	l.run(2, "--join", l.http[0], "--discover-timeout", "2s")
	<-l.node(2).done
	out = l.node(2).logs()
	if code := l.node(2).cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(out, "in vain") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// TestTwoClustersMeet makes two clusters on networks that are apart, and puts them
// together: both stay what they are, say so, and nobody joins either by chance.
func TestTwoClustersMeet(t *testing.T) {
	t.Parallel()
	l := newLAN(t, 3)
	l.lab.nft(2, "add rule inet fault in ip saddr "+l.lab.ip(1)+" drop")
	l.lab.nft(2, "add rule inet fault out ip daddr "+l.lab.ip(1)+" drop")
	l.lab.nft(1, "add rule inet fault in ip saddr "+l.lab.ip(2)+" drop")
	for id := 1; id <= 2; id++ {
		l.run(id, "--discover", "--bootstrap", "--discover-timeout", "2s")
	}
	var ids [2]string
	waitFor(t, "two clusters", time.Minute, func() bool {
		for i := range ids {
			s, err := l.state(i + 1)
			if err != nil {
				return false
			}
			ids[i] = s.ClusterID
		}
		return ids[0] != "" && ids[1] != ""
	})
	if ids[0] == ids[1] {
		t.Fatal("they found each other")
	}
	l.lab.heal(1)
	l.lab.heal(2)
	waitFor(t, "them to notice each other", time.Minute, func() bool {
		for i := range ids {
			s, err := l.state(i + 1)
			if err != nil || len(s.Others) != 1 || s.Others[0].ClusterID != ids[1-i] || s.ClusterID != ids[i] || len(s.Nodes) != 1 {
				return false
			}
		}
		return true
	})
	for id := 1; id <= 2; id++ {
		if !strings.Contains(l.node(id).logs(), "another cluster of the same name is on this network") {
			t.Errorf("machine %d does not say that there are two", id)
		}
	}
	l.run(3, "--discover", "--bootstrap", "--discover-timeout", "2s")
	<-l.node(3).done
	if out := l.node(3).logs(); !strings.Contains(out, "there are several clusters named \"default\"") || !strings.Contains(out, "--join") {
		t.Error(out)
	}
}
