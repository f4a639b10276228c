//go:build system

package system

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func (c *cluster) dataDir(id int) string { return filepath.Join(c.dir, fmt.Sprintf("node-%d", id)) }
func (c *cluster) walDir(id int) string  { return filepath.Join(c.dataDir(id), "wal") }

// metric is the sum of a node's series of that name; 0 when it does not answer.
func (c *cluster) metric(id int, name string) (sum float64) {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get("http://" + c.http[id-1] + "/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(body)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(rest)
		if v, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			sum += v
		}
	}
	return sum
}

// replicasOf are the nodes of a partition, the preferred leader first.
func (c *cluster) replicasOf(topic string, partition int) (nodes []int) {
	c.t.Helper()
	var a struct {
		Replicas []struct {
			Node int `json:"node"`
		} `json:"replicas"`
	}
	out := c.etcdctl("get", "--print-value-only", fmt.Sprintf("/raftsman/default/assignments/%s/%d", topic, partition))
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		c.t.Fatalf("assignment of %s/%d: %v\n%s", topic, partition, err, out)
	}
	for _, r := range a.Replicas {
		nodes = append(nodes, r.Node)
	}
	return nodes
}

// inSync asks for a partition's in-sync replicas.
func (c *cluster) inSync(topic string, partition, node int) bool {
	out, err := c.raftsman("topic", "describe", topic, "-o", "json")
	if err != nil {
		return false
	}
	var d struct {
		Details []struct {
			Partition int   `json:"partition"`
			ISR       []int `json:"isr"`
		} `json:"partition_details"`
	}
	if json.Unmarshal([]byte(out), &d) != nil {
		return false
	}
	for _, p := range d.Details {
		if p.Partition == partition {
			return slices.Contains(p.ISR, node)
		}
	}
	return false
}

// compareSegments waits until the segments of all replicas of partition 0 hold
// the same bytes, whatever files they are in, and at least so many.
func (c *cluster) compareSegments(topic string, atLeast int64) {
	c.t.Helper()
	nodes := c.replicasOf(topic, 0)
	var last string
	deadline := time.Now().Add(2 * time.Minute)
	waitFor(c.t, "equal segments", 3*time.Minute, func() bool {
		sums := make(map[string]bool)
		last = ""
		var size int64
		for _, id := range nodes {
			h := sha256.New()
			bytes, files, staged := c.segmentsOf(topic, id, h)
			sum := fmt.Sprintf("%x", h.Sum(nil))
			if staged {
				sum = "staged files are left"
			}
			sums[sum] = true
			size = bytes
			last += fmt.Sprintf("node %d: %d bytes in %d files, sha256 %.12s\n", id, bytes, files, sum)
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("segments differ or are too few (wanted %d bytes):\n%s", atLeast, last)
		}
		return len(sums) == 1 && size >= atLeast
	})
	c.t.Logf("segments hold the same bytes:\n%s", last)
}

// segmentsOf writes what a node's segments of a topic hold, in the order of
// offsets; staged says that it has others on their way.
func (c *cluster) segmentsOf(topic string, id int, to io.Writer) (bytes int64, files int, staged bool) {
	dirs, _ := filepath.Glob(filepath.Join(c.dataDir(id), "partitions", "*"))
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "replica.json"))
		if err != nil || !strings.Contains(string(b), fmt.Sprintf(`"topic":%q`, topic)) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "staged")); err == nil {
			staged = true
		}
		logs, _ := filepath.Glob(filepath.Join(dir, "log", "*.log")) // sorted: by offset
		for _, name := range logs {
			n, err := appendFile(to, name)
			if err == nil { // else it was removed meanwhile
				bytes, files = bytes+n, files+1
			}
		}
	}
	return bytes, files, staged
}

// appendFile copies a file, or only counts its bytes.
func appendFile(to io.Writer, name string) (int64, error) {
	if to == io.Discard {
		info, err := os.Stat(name)
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return io.Copy(to, f)
}

// sizeWatch samples the size of every node's write-ahead log.
type sizeWatch struct {
	limit      int64
	stop, done chan struct{}
	mu         sync.Mutex
	files      map[int]int64 // greatest, by what is on disk
	metric     map[int]int64 // greatest, by what the node says
	samples    int
}

func watchSize(c *cluster, limit int64) *sizeWatch {
	w := &sizeWatch{limit: limit, stop: make(chan struct{}), done: make(chan struct{}), files: make(map[int]int64), metric: make(map[int]int64)}
	c.t.Cleanup(w.end)
	go func() {
		defer close(w.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
			for id := range c.nodes {
				w.sample(c, id+1, n%16 == 0)
			}
		}
	}()
	return w
}

func (w *sizeWatch) sample(c *cluster, id int, ask bool) {
	size := dirSize(c.walDir(id))
	var said int64
	if ask {
		said = int64(c.metric(id, "raftsman_wal_size_bytes"))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.samples++
	w.files[id] = max(w.files[id], size)
	w.metric[id] = max(w.metric[id], said)
}

// dirSize counts a file that is renamed meanwhile once.
func dirSize(dir string) (sum int64) {
	entries, _ := os.ReadDir(dir)
	seen := make(map[uint64]bool)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[st.Ino] {
			seen[st.Ino] = true
			sum += info.Size()
		}
	}
	return sum
}

func (w *sizeWatch) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	<-w.done
}

// report fails the test if a log was too large at any time.
func (w *sizeWatch) report(t *testing.T) {
	t.Helper()
	w.end()
	for id := range len(w.files) {
		id++
		t.Logf("node %d: log at most %.1f MiB on disk, %.1f MiB by its metric, limit %.1f MiB (%d samples)", id,
			float64(w.files[id])/(1<<20), float64(w.metric[id])/(1<<20), float64(w.limit)/(1<<20), w.samples/len(w.files))
		if w.files[id] > w.limit || w.metric[id] > w.limit {
			t.Errorf("the write-ahead log of node %d exceeded its limit of %d bytes: %d on disk, %d by its metric", id, w.limit, w.files[id], w.metric[id])
		}
	}
}
