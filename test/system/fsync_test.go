//go:build system

package system

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// syncCalls are the system calls that wait for a disk.
const syncCalls = "fdatasync,fsync,sync_file_range,syncfs,sync,msync"

// strace is a tracer of one process.
type strace struct {
	cmd  *exec.Cmd
	out  string
	done chan error
}

// trace attaches strace to a node; it has when this returns.
func (c *cluster) trace(t *testing.T, id int, args ...string) *strace {
	t.Helper()
	s := &strace{out: fmt.Sprintf("%s/strace-%d-%d", c.dir, id, time.Now().UnixNano()), done: make(chan error, 1)}
	args = append([]string{"-f", "-o", s.out, "-p", fmt.Sprint(c.node(id).cmd.Process.Pid)}, args...)
	s.cmd = exec.Command("strace", args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	attached := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "attached") {
				select {
				case attached <- true:
				default:
				}
			}
		}
		s.done <- s.cmd.Wait()
	}()
	t.Cleanup(func() { s.stop() })
	select {
	case <-attached:
	case <-time.After(10 * time.Second):
		t.Fatalf("strace does not attach to node %d", id)
	}
	return s
}

// stop detaches, and waits.
func (s *strace) stop() {
	if s.done == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	<-s.done
	s.done = nil
}

// calls sums what `strace -c` counted.
func (s *strace) calls(t *testing.T) (n int) {
	t.Helper()
	s.stop()
	b, err := os.ReadFile(s.out)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 5 || !strings.Contains(","+syncCalls+",", ","+f[len(f)-1]+",") {
			continue
		}
		v, err := strconv.Atoi(f[3])
		if err != nil {
			t.Fatalf("strace wrote %q", line)
		}
		n += v
	}
	return n
}

// parts sums a counter with labels over all nodes, by one of the labels.
func (c *cluster) parts(t *testing.T, name, label string) map[string]float64 {
	t.Helper()
	sum := make(map[string]float64)
	for id := range c.nodes {
		for _, line := range c.metricLines(t, id+1, name+"{") {
			labels, value, _ := strings.Cut(line, "} ")
			_, rest, ok := strings.Cut(labels, label+`="`)
			v, err := strconv.ParseFloat(value, 64)
			if !ok || err != nil {
				t.Fatalf("metric %q", line)
			}
			part, _, _ := strings.Cut(rest, `"`)
			sum[part] += v
		}
	}
	return sum
}

// metricLines returns the lines of a node's /metrics that begin with prefix.
func (c *cluster) metricLines(t *testing.T, id int, prefix string) (lines []string) {
	t.Helper()
	resp, err := http.Get("http://" + c.http[id-1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, prefix) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// syncRates are calls a second, over all nodes.
type syncRates struct {
	product float64            // all that the nodes count
	parts   map[string]float64 // the same by part of the data directory
	kernel  float64            // by strace
	acked   float64            // records
	turned  int                // log files released
}

func (r syncRates) String() string {
	return fmt.Sprintf("%.0f records/s, %.0f syncs/s by the nodes (log %.0f, segments %.1f, manifests %.1f), %.0f by strace, %d log files released",
		r.acked, r.product, r.parts["wal"], r.parts["partitions"], r.parts["manifests"], r.kernel, r.turned)
}

// oldestLogs sums the numbers of the nodes' oldest log files.
func (c *cluster) oldestLogs(t *testing.T) (sum int) {
	t.Helper()
	for id := range c.nodes {
		name := filepath.Base(filesOf(t, c.dataDir(id+1), "wal", "*.wal")[0])
		n, err := strconv.ParseInt(strings.TrimSuffix(name, ".wal"), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += int(n)
	}
	return sum
}

// syncLoad is what measureSyncs writes: perTick records of 1 KiB each tick (or,
// with 0, as many as are taken), until warm are acknowledged, and then for window.
type syncLoad struct {
	perTick int
	tick    time.Duration
	warm    int64
	window  time.Duration
}

// measureSyncs loads a topic's partitions in turn, and counts for a while.
func (c *cluster) measureSyncs(t *testing.T, topic string, partitions int, load syncLoad) syncRates {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(20000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var acked, failed atomic.Int64
	value := make([]byte, 1024)
	send := func(p int) {
		client.Produce(context.Background(), &kgo.Record{Partition: int32(p), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Add(1)
				return
			}
			acked.Add(1)
		})
	}
	for p := range partitions {
		send(p)
	}
	waitFor(t, "an acknowledgement of each partition", time.Minute, func() bool { return acked.Load() == int64(partitions) })
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		pace := time.NewTicker(load.tick)
		defer pace.Stop()
		for i := 0; ; {
			if load.perTick > 0 {
				<-pace.C
			}
			burst := load.perTick
			if burst == 0 {
				burst = 100
			}
			for range burst {
				send(i % partitions)
				i++
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	from := acked.Load()
	waitFor(t, "the load", 5*time.Minute, func() bool { return acked.Load() > from+load.warm })

	var tracers []*strace
	for id := range c.nodes {
		tracers = append(tracers, c.trace(t, id+1, "-c", "-e", "trace="+syncCalls))
	}
	before := c.parts(t, "raftsman_disk_syncs_total", "part")
	began, first, oldest := time.Now(), acked.Load(), c.oldestLogs(t)
	<-time.After(load.window)
	rates := syncRates{parts: c.parts(t, "raftsman_disk_syncs_total", "part"), turned: c.oldestLogs(t) - oldest}
	took := time.Since(began).Seconds()
	for part := range rates.parts {
		rates.parts[part] = (rates.parts[part] - before[part]) / took
		rates.product += rates.parts[part]
	}
	rates.acked = float64(acked.Load()-first) / took
	for _, s := range tracers {
		rates.kernel += float64(s.calls(t)) / time.Since(began).Seconds()
	}
	close(stop)
	<-done
	if err := client.Flush(t.Context()); err != nil || failed.Load() > 0 {
		t.Fatalf("flush: %v; %d records failed", err, failed.Load())
	}
	return rates
}

// fromEnv is a number of the environment.
func fromEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func window() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("RAFTSMAN_WINDOW")); err == nil && d > 0 {
		return d
	}
	return 5 * time.Second
}

// compareSyncs wants at most twice the syncs of one partition on many.
func compareSyncs(t *testing.T, one, many syncRates, partitions int) {
	t.Helper()
	t.Logf("1 partition: %v", one)
	t.Logf("%d partitions: %v", partitions, many)
	byRecord := (many.kernel / many.acked) / (one.kernel / one.acked)
	t.Logf("ratios: %.2f by the nodes, %.2f by strace, %.2f a record (wanted: at most 2)", many.product/one.product, many.kernel/one.kernel, byRecord)
	if many.product > 2*one.product || many.kernel > 2*one.kernel {
		t.Error("syncs grow with partitions")
	}
	for _, r := range []syncRates{one, many} {
		if r.kernel < r.product*0.8 || r.kernel > r.product*1.25 {
			t.Errorf("strace saw %.0f syncs a second, the nodes counted %.0f", r.kernel, r.product)
		}
	}
}

// TestSyncsDoNotGrowWithPartitions: the same load on many partitions costs at
// most twice the syncs that it costs on one, by the nodes' own count and by the
// kernel's. RAFTSMAN_PARTITIONS says how many (1,000 is the claim).
func TestSyncsDoNotGrowWithPartitions(t *testing.T) {
	partitions := fromEnv("RAFTSMAN_PARTITIONS", 100)
	load := syncLoad{perTick: 1, tick: 500 * time.Microsecond, warm: 2000, window: window()}
	c := startCluster(t, 3, 10*time.Second)
	c.create("one", 1)
	one := c.measureSyncs(t, "one", 1, load)
	c.createMany("many", partitions)
	many := c.measureSyncs(t, "many", partitions, load)
	compareSyncs(t, one, many, partitions)
	if many.acked < one.acked/2 {
		t.Errorf("%.0f records a second on many partitions are no match for %.0f on one", many.acked, one.acked)
	}
}

// TestSyncsWithSnapshots is the same under loads that release the log again and
// again, so that every group takes snapshots. RAFTSMAN_LOAD is the moderate one
// in records of 1 KiB a second, RAFTSMAN_WAL_LIMIT the log's limit in MiB.
func TestSyncsWithSnapshots(t *testing.T) {
	partitions := fromEnv("RAFTSMAN_PARTITIONS", 100)
	limit := int64(fromEnv("RAFTSMAN_WAL_LIMIT", 64)) << 20
	moderate := syncLoad{perTick: fromEnv("RAFTSMAN_LOAD", 5000) / 1000, tick: time.Millisecond, warm: limit >> 10, window: window()}
	highest := moderate
	highest.perTick = 0
	c := startCluster(t, 3, 10*time.Second, "--wal-size-limit", fmt.Sprint(limit), "--wal-file-size", fmt.Sprint(limit/16))
	c.create("one", 1)
	c.createMany("many", partitions)
	for _, load := range []struct {
		name string
		syncLoad
	}{{"moderate", moderate}, {"highest", highest}} {
		t.Run(load.name, func(t *testing.T) {
			one := c.measureSyncs(t, "one", 1, load.syncLoad)
			many := c.measureSyncs(t, "many", partitions, load.syncLoad)
			compareSyncs(t, one, many, partitions)
			if one.turned == 0 || many.turned == 0 || many.parts["manifests"] == 0 {
				t.Error("no snapshots in the window: it shows nothing")
			}
		})
	}
}

// createMany creates a topic and waits until all partitions have a leader, by
// metadata.
func (c *cluster) createMany(topic string, partitions int) {
	c.t.Helper()
	if out, err := c.raftsman("topic", "create", topic, "--partitions", fmt.Sprint(partitions)); err != nil {
		c.t.Fatalf("create %s: %v\n%s", topic, err, out)
	}
	waitFor(c.t, "leaders of "+topic, 2*time.Minute, func() bool {
		out, err := c.raftsman("topic", "describe", topic, "-o", "json")
		if err != nil {
			return false
		}
		for i := range partitions {
			if leaderIn(out, i) == 0 {
				return false
			}
		}
		return true
	})
}
