//go:build system

package system

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// replica is one of an assignment.
type replica struct {
	Node int    `json:"node"`
	ID   uint64 `json:"id"`
}

// nodeStatus is a status key.
type nodeStatus struct {
	Node    int                         `json:"node"`
	Leads   map[string]map[int]uint64   `json:"leads"`
	Lagging map[string]map[int][]int    `json:"lagging"`
	Moving  map[string][]int            `json:"moving"`
	Bytes   map[string]map[string]int64 `json:"bytes"`
}

// layout is where everything is, by what etcd says.
type layout struct {
	assigned map[place][]replica
	replicas map[int]int // by node
	leads    map[int]int // partitions that have reported their leader
	lagging  int         // replicas
	moving   int         // partitions
}

// json reads all keys below a prefix.
func (c *cluster) json(prefix string, each func(key, value string)) {
	c.t.Helper()
	lines := strings.Split(strings.TrimSpace(c.etcdctl("get", "--prefix", "/raftsman/default/"+prefix)), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		each(strings.TrimPrefix(lines[i], "/raftsman/default/"+prefix), lines[i+1])
	}
}

func (c *cluster) layout() layout {
	c.t.Helper()
	l := layout{assigned: map[place][]replica{}, replicas: map[int]int{}, leads: map[int]int{}}
	c.json("assignments/", func(key, value string) {
		var a struct {
			Replicas []replica `json:"replicas"`
		}
		topic, part, _ := strings.Cut(key, "/")
		var p int32
		if _, err := fmt.Sscan(part, &p); err != nil || json.Unmarshal([]byte(value), &a) != nil {
			c.t.Fatalf("assignment %s: %s", key, value)
		}
		l.assigned[place{topic, p}] = a.Replicas
		for _, r := range a.Replicas {
			l.replicas[r.Node]++
		}
	})
	c.json("status/", func(key, value string) {
		var s nodeStatus
		if err := json.Unmarshal([]byte(value), &s); err != nil {
			c.t.Fatalf("status %s: %v: %s", key, err, value)
		}
		for _, parts := range s.Leads {
			l.leads[s.Node] += len(parts)
		}
		for _, parts := range s.Moving {
			l.moving += len(parts)
		}
		for _, parts := range s.Lagging {
			for _, nodes := range parts {
				l.lagging += len(nodes)
			}
		}
	})
	return l
}

// whole says whether every partition is led, in its place and in sync.
func (l layout) whole() bool {
	led := 0
	for _, n := range l.leads {
		led += n
	}
	return led == len(l.assigned) && l.moving == 0 && l.lagging == 0
}

// level says whether replicas and leaders are spread over the nodes, to a tenth
// or to one.
func (l layout) level(nodes ...int) bool {
	for _, counts := range []map[int]int{l.replicas, l.leads} {
		total := 0
		for node, n := range counts {
			if n > 0 && !slices.Contains(nodes, node) {
				return false
			}
			total += n
		}
		fair := float64(total) / float64(len(nodes))
		for _, node := range nodes {
			if off := float64(counts[node]) - fair; off > max(fair/10, 1) || -off > max(fair/10, 1) {
				return false
			}
		}
	}
	return true
}

func (l layout) String() string {
	return fmt.Sprintf("replicas by node %v, leaders %v, %d replicas lag, %d partitions move", l.replicas, l.leads, l.lagging, l.moving)
}

// moved counts the replicas that were not there before.
func (l layout) moved(before layout) (n int) {
	old := map[uint64]bool{}
	for _, rs := range before.assigned {
		for _, r := range rs {
			old[r.ID] = true
		}
	}
	for _, rs := range l.assigned {
		for _, r := range rs {
			if !old[r.ID] {
				n++
			}
		}
	}
	return n
}

// awaitLayout waits for a layout, and says every few seconds how far it is.
func (c *cluster) awaitLayout(what string, limit time.Duration, cond func(layout) bool) (l layout, took time.Duration) {
	c.t.Helper()
	began, said := time.Now(), time.Now()
	waitFor(c.t, what, limit, func() bool {
		if l = c.layout(); time.Since(said) > 10*time.Second {
			said = time.Now()
			c.t.Logf("%v: %v", time.Since(began).Round(time.Second), l)
		}
		return cond(l)
	})
	return l, time.Since(began)
}

// partitionBytes is what a node's partitions hold on disk.
func (c *cluster) partitionBytes(id int) (sum int64) {
	_ = filepath.WalkDir(filepath.Join(c.dataDir(id), "partitions"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // gone meanwhile
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// fill writes about so many bytes to each partition and waits for them.
func (s *spread) fill(t *testing.T, bytes int) {
	t.Helper()
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.seqs))
	s.mu.Unlock()
	const each = 100_000
	total := 0
	for written := 0; written < bytes; written += each {
		for _, p := range all {
			s.write(p, min(each, bytes-written))
			total++
		}
	}
	waitFor(t, "the first records", 10*time.Minute, func() bool { return s.acknowledged() >= total })
}

// partitionSize is RAFTSMAN_PARTITION_BYTES, or 1 MiB.
func partitionSize() int { return fromEnv("RAFTSMAN_PARTITION_BYTES", 1<<20) }

// opOf reads an operation's key.
type opOf struct {
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Progress struct {
		Done       int   `json:"done"`
		Total      int   `json:"total"`
		BytesDone  int64 `json:"bytes_done"`
		BytesTotal int64 `json:"bytes_total"`
		Estimate   int64 `json:"estimate_seconds"`
	} `json:"progress"`
}

func (c *cluster) op(id string) (o opOf) {
	c.t.Helper()
	out := c.etcdctl("get", "--print-value-only", "/raftsman/default/ops/"+id)
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		c.t.Fatalf("operation %s: %v: %s", id, err, out)
	}
	return o
}

// opIDs lists the operations.
func (c *cluster) opIDs() (ids []string) {
	c.t.Helper()
	c.json("ops/", func(key, _ string) { ids = append(ids, key) })
	return ids
}

// sample is an estimate and when it was made.
type sample struct {
	at       time.Time
	progress string
	left     time.Duration
}

// awaitOp follows an operation to its end.
func (c *cluster) awaitOp(id string, limit time.Duration) (o opOf, samples []sample) {
	c.t.Helper()
	last := ""
	waitFor(c.t, "operation "+id, limit, func() bool {
		o = c.op(id)
		p := fmt.Sprintf("%d/%d replicas, %d/%d MiB", o.Progress.Done, o.Progress.Total, o.Progress.BytesDone>>20, o.Progress.BytesTotal>>20)
		if p != last && o.Progress.Estimate > 0 {
			samples = append(samples, sample{time.Now(), p, time.Duration(o.Progress.Estimate) * time.Second})
			last = p
		}
		return slices.Contains([]string{"done", "refused", "failed", "cancelled"}, o.State)
	})
	return o, samples
}

// judge compares estimates with what it took. Those of less than a few seconds
// mean little: they are whole seconds.
func judge(t *testing.T, samples []sample, end time.Time) {
	t.Helper()
	good, bad := 0, 0
	for i, s := range samples {
		left := end.Sub(s.at)
		ratio := s.left.Seconds() / left.Seconds()
		if i%max(len(samples)/10, 1) == 0 {
			t.Logf("%s: estimate %v, it took %v (%.2f)", s.progress, s.left, left.Round(100*time.Millisecond), ratio)
		}
		if left > 5*time.Second {
			if ratio > 2 || ratio < 0.5 {
				bad++
			} else {
				good++
			}
		}
	}
	t.Logf("estimates within a factor of two: %d of %d", good, good+bad)
	if bad > good {
		t.Error("most estimates are wrong")
	}
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
