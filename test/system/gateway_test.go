//go:build system

package system

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// startGateway starts `raftsman gateway` and waits until it serves.
func (c *cluster) startGateway(args ...string) (kafka string) {
	c.t.Helper()
	p := ports(c.t, 2)
	kafka, web := fmt.Sprintf("127.0.0.1:%d", p[0]), fmt.Sprintf("127.0.0.1:%d", p[1])
	g := c.spawn("gateway", append([]string{binary(c.t, "raftsman"), "gateway", "--addr", kafka, "--http-addr", web}, args...)...)
	c.t.Cleanup(func() {
		g.cleanUp()
		if c.t.Failed() {
			out := g.logs()
			c.t.Logf("the gateway wrote at last:\n%s", out[max(0, len(out)-6000):])
		}
	})
	waitFor(c.t, "the gateway to be ready", 30*time.Second, func() bool {
		client := http.Client{Timeout: time.Second}
		resp, err := client.Get("http://" + web + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return kafka
}

// feeder writes numbered lines to an idempotent kcat producer of one partition.
type feeder struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	errs strings.Builder
	sent atomic.Int64
	stop chan struct{}
	done chan struct{}
}

func feed(t *testing.T, broker, topic string, partition int) *feeder {
	t.Helper()
	f := &feeder{stop: make(chan struct{}), done: make(chan struct{})}
	f.cmd = exec.CommandContext(t.Context(), "kcat", "-b", broker, "-P", "-t", topic, "-p", fmt.Sprint(partition),
		"-X", "enable.idempotence=true", "-X", "linger.ms=2")
	f.cmd.Stderr = &f.errs
	var err error
	if f.in, err = f.cmd.StdinPipe(); err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-f.stop:
				f.in.Close()
				return
			case <-tick.C:
				if _, err := fmt.Fprintf(f.in, "%d\n", f.sent.Load()); err != nil {
					return
				}
				f.sent.Add(1)
			}
		}
	}()
	return f
}

// finish has kcat deliver what is left, and returns how many lines there were.
func (f *feeder) finish(t *testing.T) int64 {
	t.Helper()
	close(f.stop)
	<-f.done
	if err := f.cmd.Wait(); err != nil {
		t.Errorf("a producer ended with %v:\n%s", err, f.errs.String())
	}
	return f.sent.Load()
}

// distinct counts the distinct lines of files.
func distinct(t *testing.T, files []string) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			seen[s.Text()]++
		}
		f.Close()
	}
	return seen
}

// TestGatewayThroughKills: kcat producers and a group of two kcat consumers
// (librdkafka), which know one gateway only, work while the nodes behind it are
// killed in turn, or stopped: those take connections and say nothing. What idempotent producers wrote is there once and in order, and
// the group has read all of it.
func TestGatewayThroughKills(t *testing.T) {
	c := startCluster(t, 3, 5*time.Second, "--group-initial-rebalance-delay", "0")
	const partitions = 4
	c.create("lines", partitions)
	gateway := c.startGateway("--etcd-endpoints", strings.Join(c.etcdURL, ","))
	dir := t.TempDir()
	var members []*exec.Cmd
	var files []string
	for i := range 2 {
		out, err := os.Create(filepath.Join(dir, fmt.Sprint("member", i)))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		m := exec.CommandContext(t.Context(), "kcat", "-b", gateway, "-G", "readers", "-u", "-q", "-f", "%p %s\n", "-o", "beginning",
			"-X", "auto.commit.interval.ms=100", "-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500", "lines")
		m.Stdout = out
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		members, files = append(members, m), append(files, out.Name())
	}
	var feeders []*feeder
	for p := range partitions {
		feeders = append(feeders, feed(t, gateway, "lines", p))
	}
	read := func() int { return len(distinct(t, files)) }
	goesOn := func(what string) {
		t.Helper()
		count := func() (lines [partitions]int) {
			for line := range distinct(t, files) {
				lines[line[0]-'0']++
			}
			return lines
		}
		before := count()
		from := time.Now()
		waitFor(t, what, time.Minute, func() bool {
			for p, n := range count() {
				if n <= before[p]+100 {
					return false
				}
			}
			return true
		})
		t.Logf("%s: 100 more lines of each partition written and read after %v", what, time.Since(from).Round(time.Millisecond))
	}
	goesOn("all nodes")
	for id := 1; id <= 3; id++ {
		// The second one is the gateway's home node: the first has just come back.
		if id == 2 {
			c.node(id).signal(syscall.SIGSTOP)
			goesOn(fmt.Sprintf("while node %d is stopped", id))
			c.node(id).signal(syscall.SIGCONT)
		} else {
			c.node(id).kill()
			goesOn(fmt.Sprintf("without node %d", id))
			c.node(id).start()
		}
		c.waitReady(id)
		goesOn(fmt.Sprintf("with node %d back", id))
	}
	want := 0
	for p, f := range feeders {
		n := f.finish(t)
		want += int(n)
		out := command(t, "", "kcat", "-b", c.kafka[0], "-C", "-t", "lines", "-p", fmt.Sprint(p), "-e", "-q", "-f", "%s\n")
		got := strings.Fields(string(out))
		if len(got) != int(n) {
			t.Errorf("partition %d has %d records of %d lines", p, len(got), n)
		}
		for i, line := range got {
			if line != fmt.Sprint(i) {
				t.Errorf("partition %d: line %s at offset %d", p, line, i)
				break
			}
		}
	}
	waitFor(t, "the group to have read everything", time.Minute, func() bool { return read() == want })
	for _, m := range members {
		if err := m.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = m.Wait() // by a signal
	}
	again := 0
	for _, n := range distinct(t, files) {
		again += n - 1
	}
	t.Logf("%d lines, %d of them read again", want, again)
}

// TestGatewayWithoutEtcd: a gateway that is told a node's address starts while all
// of etcd is away, and serves.
func TestGatewayWithoutEtcd(t *testing.T) {
	c := startCluster(t, 3, 5*time.Second)
	c.create("lines", 3)
	for _, e := range c.etcds {
		e.kill()
	}
	gateway := c.startGateway("--nodes", c.kafka[1], "--etcd-endpoints", strings.Join(c.etcdURL, ","))
	var in strings.Builder
	for i := range 300 {
		fmt.Fprintf(&in, "%d:%d\n", i, i)
	}
	command(t, in.String(), "kcat", "-b", gateway, "-P", "-t", "lines", "-K", ":", "-X", "enable.idempotence=true")
	out := command(t, "", "kcat", "-b", gateway, "-C", "-t", "lines", "-e", "-q", "-f", "%s\n")
	if got := len(strings.Fields(string(out))); got != 300 {
		t.Errorf("%d lines of 300", got)
	}
}
