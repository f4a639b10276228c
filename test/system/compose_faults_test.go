//go:build system

package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	faultPartitions   = 6
	composeHTTP       = "19193" // where the gateway's HTTP is published
	composePrometheus = "19194"
)

// faults kills, pauses, disconnects and recreates each worker and each etcd member in
// turn, under load: nothing that was acknowledged is lost. It prints the longest time
// without an acknowledgement of each. Five workers become three again, with
// decommission. It takes minutes: RAFTSMAN_REPEAT=1 has TestCompose call it.
func (c *composeCluster) faults() {
	t := c.t
	brokers := strings.Split(c.brokers(), ",")
	command(t, "", binary(t, "raftsman"), "topic", "create", "faults", "--partitions", fmt.Sprint(faultPartitions), "--brokers", c.brokers())
	began := time.Now()
	// franz-go waits 20 s for the answer of a leader that was paused or cut off.
	loads := startLoads(t, brokers, "faults", faultPartitions)
	acked := func(what string) {
		t.Helper()
		since := time.Now()
		waitFor(t, "acknowledgements "+what, time.Minute, func() bool {
			return each(loads, func(l *load) bool { return l.ackedSince(since) > 50 })
		})
	}
	acked("at the start")
	kinds := []string{"killed", "paused", "disconnected", "recreated"}
	n := 0
	for turn := range repetitions(1) {
		for i, fault := range kinds {
			all := c.workers()
			victim := all[(i+turn)%len(all)]
			at := time.Now()
			c.strike(victim, fault, func() { acked("with " + victim.Name + " " + fault) })
			c.waitHealth()
			acked("after " + victim.Name + " was " + fault)
			t.Logf("%s %s: longest time without an acknowledgement %v", victim.Name, fault, longest(loads, at).Round(time.Millisecond))
			n++
		}
		for i, fault := range kinds {
			name := fmt.Sprintf("etcd-%d", (i+turn)%3+1)
			at := time.Now()
			c.strikeEtcd(name, fault, func() { acked("with " + name + " " + fault) })
			c.waitEtcd()
			acked("after " + name + " was " + fault)
			t.Logf("%s %s: longest time without an acknowledgement %v", name, fault, longest(loads, at).Round(time.Millisecond))
			n++
		}
	}
	at := time.Now()
	c.shrink()
	acked("with three workers")
	t.Logf("five workers became three: longest time without an acknowledgement %v", longest(loads, at).Round(time.Millisecond))
	finishAll(t, loads...)
	for _, l := range loads {
		l.verify(t, strings.Split(c.brokers(), ","))
	}
	t.Logf("%d faults in %v", n, time.Since(began).Round(time.Second))
}

// strike does something to a worker, calls meanwhile, and makes it good.
func (c *composeCluster) strike(w composeContainer, fault string, meanwhile func()) {
	c.t.Helper()
	switch fault {
	case "killed":
		c.docker("kill", w.ID)
		meanwhile()
		c.docker("start", w.ID)
	case "paused":
		c.docker("pause", w.ID)
		meanwhile()
		c.docker("unpause", w.ID)
	case "disconnected": // as when somebody pulls the cable: it keeps its address
		pid := strings.TrimSpace(string(c.docker("inspect", "-f", "{{.State.Pid}}", w.ID)))
		c.run(10*time.Second, "nsenter", "-t", pid, "-n", "ip", "link", "set", "eth0", "down")
		meanwhile()
		c.run(10*time.Second, "nsenter", "-t", pid, "-n", "ip", "link", "set", "eth0", "up")
	case "recreated": // with an empty volume, as another node
		before := c.nodes()
		count := len(c.workers())
		c.docker("rm", "-f", "-v", w.ID)
		meanwhile()
		c.compose("up", "-d", "--no-deps", "--scale", fmt.Sprintf("worker=%d", count), "worker")
		c.waitHealthy(count + 4)
		for id, peer := range before {
			if peer == w.IP+":7070" {
				c.decommission(id)
			}
		}
	default:
		c.t.Fatalf("what is %q?", fault)
	}
}

// strikeEtcd does the same to a member of etcd.
func (c *composeCluster) strikeEtcd(name, fault string, meanwhile func()) {
	c.t.Helper()
	id := strings.TrimSpace(string(c.run(time.Minute, "docker-compose", "-p", composeProject, "ps", "-q", name)))
	network := composeProject + "_default"
	switch fault {
	case "killed":
		c.docker("kill", id)
		meanwhile()
		c.docker("start", id)
	case "paused":
		c.docker("pause", id)
		meanwhile()
		c.docker("unpause", id)
	case "disconnected":
		c.docker("network", "disconnect", network, id)
		meanwhile()
		c.docker("network", "connect", "--alias", name, network, id)
	case "recreated": // with an empty volume, as docs/operations/compose.md says
		other := "etcd-1"
		if name == other {
			other = "etcd-2"
		}
		c.compose("rm", "-sf", name)
		c.docker("volume", "rm", composeProject+"_"+name)
		meanwhile()
		member := ""
		for line := range strings.Lines(string(c.run(time.Minute, "docker-compose", "-p", composeProject, "exec", "-T", other, "etcdctl", "member", "list"))) {
			if strings.Contains(line, ", "+name+",") {
				member, _, _ = strings.Cut(line, ",")
			}
		}
		c.compose("exec", "-T", other, "etcdctl", "member", "remove", member)
		c.compose("exec", "-T", other, "etcdctl", "member", "add", name, "--peer-urls=http://"+name+":2380")
		c.run(time.Minute, "env", "ETCD_CLUSTER_STATE=existing", "docker-compose", "-p", composeProject, "up", "-d", "--no-deps", name)
	default:
		c.t.Fatalf("what is %q?", fault)
	}
}

// shrink takes two of five workers away, their replicas first.
func (c *composeCluster) shrink() {
	c.t.Helper()
	nodes := c.nodes()
	var volumes []string                // Compose leaves them behind
	for _, w := range c.workers()[3:] { // Compose removes those with the highest numbers
		volumes = append(volumes, strings.TrimSpace(string(c.docker("inspect", "-f", "{{range .Mounts}}{{.Name}}{{end}}", w.ID))))
		for id, peer := range nodes {
			if peer == w.IP+":7070" {
				c.decommission(id)
			}
		}
	}
	c.compose("up", "-d", "--no-deps", "--scale", "worker=3", "worker")
	c.docker(append([]string{"volume", "rm"}, volumes...)...)
	c.waitHealthy(7)
	c.waitHealth()
}

func (c *composeCluster) decommission(node int) {
	c.t.Helper()
	c.run(2*time.Minute, binary(c.t, "raftsman"), "node", "decommission", fmt.Sprint(node), "--yes", "--timeout", "100s", "--http", c.httpOfWorkers())
}

func (c *composeCluster) docker(args ...string) []byte {
	c.t.Helper()
	return c.run(time.Minute, "docker", args...)
}

// workers are the running ones, in the order of their numbers.
func (c *composeCluster) workers() (all []composeContainer) {
	c.t.Helper()
	number := func(k composeContainer) (n int) {
		fmt.Sscanf(k.Name[strings.LastIndexAny(k.Name, "_-")+1:], "%d", &n)
		return n
	}
	for _, k := range c.inspect() {
		if k.Running && strings.Contains(k.Name, "worker") {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b composeContainer) int { return number(a) - number(b) })
	return all
}

func (c *composeCluster) httpOfWorkers() string {
	c.t.Helper()
	return strings.ReplaceAll(c.brokers(), ":9092", ":8080")
}

// waitHealth waits until every replica is where it should be, and in sync.
func (c *composeCluster) waitHealth() {
	c.t.Helper()
	said := ""
	defer func() {
		if c.t.Failed() {
			c.t.Log(said)
		}
	}()
	waitFor(c.t, "a healthy cluster", 90*time.Second, func() bool {
		out, err := c.output(30*time.Second, binary(c.t, "raftsman"), "cluster", "health", "--http", c.httpOfWorkers())
		said = fmt.Sprintf("%s%v", out, err)
		return err == nil
	})
}

func (c *composeCluster) waitEtcd() {
	c.t.Helper()
	waitFor(c.t, "three healthy members of etcd", time.Minute, func() bool {
		_, err := c.output(time.Minute, "docker-compose", "-p", composeProject, "exec", "-T", "etcd-2", "etcdctl", "endpoint", "health", "--cluster")
		return err == nil
	})
}

// prometheus runs the one of docker-compose.yml, with this host's program, and waits
// until it sees all workers, the gateway and etcd.
func (c *composeCluster) prometheus(workers int) {
	c.t.Helper()
	c.run(2*time.Minute, "sh", "-ec", `p=$(command -v prometheus)
		tar -chPf - --transform='s,^.*/prometheus$,/bin/prometheus,' "$p" $(ldd "$p" | grep -o '/[^ ]*') |
			docker import --change 'ENTRYPOINT ["/bin/prometheus"]' - raftsman-test-prometheus:dev`)
	c.compose("up", "-d", "--no-deps", "prometheus")
	for query, want := range map[string]int{
		`up{job="raftsman"} == 1`: workers, `up{job="gateway"} == 1`: 1, `up{job="etcd"} == 1`: 3, `raftsman_ready == 1`: workers,
	} {
		waitFor(c.t, fmt.Sprintf("%d of %s", want, query), time.Minute, func() bool {
			resp, err := http.Get("http://127.0.0.1:" + composePrometheus + "/api/v1/query?query=" + url.QueryEscape(query))
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			var answer struct {
				Data struct {
					Result []json.RawMessage
				}
			}
			return json.NewDecoder(resp.Body).Decode(&answer) == nil && len(answer.Data.Result) == want
		})
	}
	c.compose("rm", "-sf", "prometheus")
}

// TestProvisioning: what docker-compose.yml mounts into Prometheus and Grafana is
// there, and says what they understand.
func TestProvisioning(t *testing.T) {
	promtool(t, "", "check", "config", filepath.Join(rulesDir, "compose.yml"))
	root := filepath.Join("..", "..")
	out := command(t, "", "docker-compose", "-f", filepath.Join(root, "docker-compose.yml"), "--profile", "monitoring", "config")
	mounts := 0
	for line := range strings.Lines(string(out)) {
		from, to, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "- "), ":")
		if !ok || !strings.HasPrefix(from, "/") || !strings.HasPrefix(to, "/") {
			continue
		}
		mounts++
		if _, err := os.Stat(from); err != nil {
			t.Errorf("%s is mounted: %v", from, err)
		}
	}
	if mounts != 3 {
		t.Errorf("%d files and directories are mounted, want 3", mounts)
	}
}
