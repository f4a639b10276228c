//go:build system

package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// count is a number that the environment may set, for larger runs.
func count(t *testing.T, variable string, n int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return n
	}
	m, err := strconv.Atoi(s)
	if err != nil || m <= 0 {
		t.Fatalf("%s=%q: want a number above 0", variable, s)
	}
	return m
}

// TestManyPartitions creates RAFTSMAN_PARTITIONS partitions with three replicas,
// writes to each, watches what the idle cluster costs, and kills a node: every
// partition takes records again. It prints the times.
func TestManyPartitions(t *testing.T) {
	n := count(t, "RAFTSMAN_PARTITIONS", 300)
	c := startCluster(t, 3, 10*time.Second)

	cl, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(50*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }),
		kgo.RecordDeliveryTimeout(time.Minute), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()

	began := time.Now()
	resp, err := kadm.NewClient(cl).CreateTopic(t.Context(), int32(n), 3, nil, "many")
	if err = errors.Join(err, resp.Err); err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Logf("%d partitions: CreateTopics answered after %v", n, time.Since(began).Round(time.Millisecond))
	writeEach(t, cl, "many", n, time.Minute)
	t.Logf("%d partitions: created, and each took a record, after %v (wanted for 1,000: 30s)", n, time.Since(began).Round(time.Millisecond))

	idle := c.settle(t)
	t.Logf("idle: %s of a core (wanted: at most 0.05 each)", idle)

	for round := range repetitions(2) {
		victim := 1 + round%3
		c.node(victim).kill()
		at := time.Now()
		slowest := writeEach(t, cl, "many", n, time.Minute)
		t.Logf("node %d killed: each of %d partitions took a record after %v (slowest %d; wanted: 1s)", victim, n, time.Since(at).Round(time.Millisecond), slowest)
		c.node(victim).start()
		c.waitReady(victim)
		writeEach(t, cl, "many", n, time.Minute)
	}
}

// writeEach writes a record to each partition at once, and returns the one that
// was answered last.
func writeEach(t *testing.T, cl *kgo.Client, topic string, n int, limit time.Duration) (slowest int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	wg.Add(n)
	for i := range n {
		cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(i), Value: []byte("here")}, func(r *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if slowest = int32(i); err != nil {
				errs = append(errs, fmt.Errorf("partition %d: %w", i, err))
			}
			wg.Done()
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		t.Fatalf("%d of %d partitions took no record; first: %v", len(errs), n, errs[0])
	}
	return slowest
}

// settle measures the CPU that each node uses while nobody asks for anything:
// the least of some windows, since a cluster that was just loaded is not idle.
func (c *cluster) settle(t *testing.T) string {
	t.Helper()
	window := 10 * time.Second
	best := make([]float64, len(c.nodes))
	for range 3 {
		before := make([]time.Duration, len(c.nodes))
		for i, p := range c.nodes {
			before[i] = p.cpu(t)
		}
		began := time.Now()
		select {
		case <-time.After(window):
		case <-t.Context().Done():
		}
		for i, p := range c.nodes {
			used := (p.cpu(t) - before[i]).Seconds() / time.Since(began).Seconds()
			if best[i] == 0 || used < best[i] {
				best[i] = used
			}
		}
	}
	var out []string
	for i, v := range best {
		out = append(out, fmt.Sprintf("node %d %.3f", i+1, v))
	}
	return strings.Join(out, ", ")
}

// cpu is the time that a process has used, by all its threads.
func (p *process) cpu(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	// After the name, which may hold anything: state is field 3, utime 14, stime 15.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatalf("/proc/stat of %s: %v", p.name, err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}
