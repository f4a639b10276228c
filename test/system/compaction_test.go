//go:build system

package system

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const tableKeys = 10_000

// table is a compacted topic of one partition that is being written, and what each
// key has to have in the end.
type table struct {
	c      *cluster
	client *kgo.Client

	mu    sync.Mutex
	last  map[string]string // "" is a deleted key
	acked int
	bad   error
}

func (c *cluster) table() *table {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.MaxBufferedRecords(20_000), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	config := map[string]*string{}
	for k, v := range map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.05",
		"delete.retention.ms": "1000", "segment.ms": "10000",
	} {
		config[k] = &v
	}
	if _, err := kadm.NewClient(client).CreateTopic(c.t.Context(), 1, 3, config, "table"); err != nil {
		c.t.Fatal(err)
	}
	return &table{c: c, client: client, last: make(map[string]string)}
}

// write makes n updates, a tenth of them deletes, and waits for all answers.
func (b *table) write(rnd *rand.Rand, n int) {
	for i := range n {
		record := &kgo.Record{Topic: "table", Key: fmt.Appendf(nil, "key-%05d", rnd.IntN(tableKeys))}
		if rnd.IntN(10) > 0 {
			record.Value = fmt.Appendf(nil, "%d-%s", i, strings.Repeat("v", 100+rnd.IntN(200)))
		}
		b.client.Produce(b.c.t.Context(), record, b.note)
	}
	if err := b.client.Flush(b.c.t.Context()); err != nil {
		b.note(nil, err)
	}
	// This one has no later one with its key: it tells where the table ends.
	b.client.Produce(b.c.t.Context(), &kgo.Record{Topic: "table", Key: []byte("end"), Value: []byte("end")}, b.note)
	if err := b.client.Flush(b.c.t.Context()); err != nil {
		b.note(nil, err)
	}
}

// note comes in the order of offsets: there is one partition.
func (b *table) note(r *kgo.Record, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.bad = err
		return
	}
	b.acked++
	b.last[string(r.Key)] = string(r.Value)
}

func (b *table) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.acked
}

// live is what the table holds, and its bytes.
func (b *table) live() (values map[string]string, bytes int64) {
	values = maps.Clone(b.last)
	maps.DeleteFunc(values, func(_, v string) bool { return v == "" })
	for k, v := range values {
		bytes += int64(len(k) + len(v))
	}
	return values, bytes
}

// check reads the table from the partition's leader.
func (b *table) check(who string) {
	t := b.c.t
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.c.kafka...), kgo.ConsumeTopics("table"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	want, _ := b.live()
	got := make(map[string]string)
	last, records := int64(-1), 0
	for got["end"] == "" {
		client.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
			if r.Offset <= last {
				t.Errorf("%s: offset %d after %d", who, r.Offset, last)
			}
			last = r.Offset
			records++
			if r.Value == nil {
				delete(got, string(r.Key))
			} else {
				got[string(r.Key)] = string(r.Value)
			}
		})
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
	}
	wrong := 0
	for key, value := range want {
		if got[key] != value {
			wrong++
		}
	}
	back := 0
	for key := range got {
		if _, ok := want[key]; !ok {
			back++
		}
	}
	if wrong+back > 0 {
		t.Errorf("%s: %d of %d keys have a wrong value or none, %d deleted ones are there", who, wrong, len(want), back)
	}
	t.Logf("%s: %d keys in %d records", who, len(got), records)
}

// segmentBytes is what a node's segments take.
func (c *cluster) segmentBytes(id int) (bytes int64) {
	files, err := filepath.Glob(filepath.Join(c.dir, fmt.Sprintf("node-%d", id), "partitions", "*", "log", "*.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

// TestCompactionKilled writes RAFTSMAN_UPDATES updates of 10,000 keys to a compacted
// topic, and kills RAFTSMAN_KILLS nodes while they compact. In the end every key has
// its last value on every replica, no deleted key is there, and the segments take at
// most twice what the keys and values take.
func TestCompactionKilled(t *testing.T) {
	t.Parallel()
	updates, kills := fromEnv("RAFTSMAN_UPDATES", 100_000), fromEnv("RAFTSMAN_KILLS", 3)
	rnd := rand.New(rand.NewPCG(uint64(fromEnv("RAFTSMAN_SEED", rand.IntN(1<<30)+1)), 0))
	rate := 2 << 20 * max(1, updates/200_000) // slow enough to be found at it
	c := startCluster(t, 3, 3*time.Second, "--compaction-rate", fmt.Sprint(rate))
	b := c.table()
	written := make(chan struct{})
	go func() {
		defer close(written)
		b.write(rand.New(rand.NewPCG(rnd.Uint64(), 1)), updates)
	}()
	during := 0
	for i := range kills {
		goal := updates * (i + 1) / (kills + 1)
		waitFor(t, fmt.Sprintf("%d updates", goal), 10*time.Minute, func() bool { return b.count() >= goal })
		id := 1 + rnd.IntN(3)
		// If it does not compact within a moment it is killed all the same.
		until := time.Now().Add(8 * time.Second)
		waitFor(t, "a compaction", time.Minute, func() bool {
			if c.metric(id, "raftsman_compactions_pending") > 0 {
				during++
				return true
			}
			return time.Now().After(until)
		})
		c.node(id).kill()
		c.node(id).start()
		c.waitReady(id)
	}
	select {
	case <-written:
	case <-time.After(20 * time.Minute):
		t.Fatal("not all was written")
	}
	if b.bad != nil {
		t.Fatalf("an update failed: %v", b.bad)
	}
	_, live := b.live()
	t.Logf("%d updates, %d kills, %d of them during a compaction; %d live bytes", b.acked, kills, during, live)
	for id := 1; id <= 3; id++ {
		waitFor(t, fmt.Sprintf("node %d to need at most twice the live bytes", id), 5*time.Minute, func() bool {
			bytes := c.segmentBytes(id)
			return bytes >= live && bytes <= 2*live
		})
		t.Logf("node %d: %d bytes in segments", id, c.segmentBytes(id))
	}
	if v, code, stderr := c.verify(1); code != 0 {
		t.Errorf("cluster verify: %d, %+v\n%s", code, v, stderr)
	}
	for id := 1; id <= 3; id++ {
		if c.leader("table", 0) != id {
			// A replica may be behind for longer than a transfer waits for it.
			waitFor(t, fmt.Sprintf("a transfer to node %d", id), time.Minute, func() bool {
				out, err := c.raftsman("partition", "transfer", "table/0", "--to", fmt.Sprint(id), "--http", c.http[0])
				if err != nil {
					t.Logf("transfer to node %d: %v\n%s", id, err, out)
				}
				return err == nil
			})
			waitFor(t, fmt.Sprintf("node %d to lead", id), 30*time.Second, func() bool { return c.leader("table", 0) == id })
		}
		b.check(fmt.Sprintf("node %d", id))
	}
}
