package testcluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// updates writes random updates and deletes of some keys, and knows what each key
// has to have in the end.
type updates struct {
	client *kgo.Client
	topic  string
	keys   int

	mu    sync.Mutex
	last  map[string]string // "" is a deleted key
	acked int
}

// run writes until stop is closed, and waits for all answers.
func (u *updates) run(t *testing.T, stop <-chan struct{}) {
	r := rand.New(rand.NewPCG(1, 2))
	flying := make(chan struct{}, 200)
	for i := 0; ; i++ {
		select {
		case <-stop:
			if err := u.client.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			return
		case flying <- struct{}{}:
		}
		record := &kgo.Record{Topic: u.topic, Key: fmt.Appendf(nil, "key-%d", r.IntN(u.keys))}
		if r.IntN(5) > 0 {
			record.Value = fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", r.IntN(300)))
		}
		u.client.Produce(t.Context(), record, func(rec *kgo.Record, err error) {
			<-flying
			if err != nil {
				t.Errorf("update %d: %v", i, err)
				return
			}
			u.mu.Lock() // in the order of offsets: the topic has one partition
			defer u.mu.Unlock()
			u.last[string(rec.Key)] = string(rec.Value)
			u.acked++
		})
	}
}

// check reads the topic from its beginning to its end.
func (u *updates) check(t *testing.T, c *Cluster) (records int) {
	t.Helper()
	client := c.Client(kgo.ConsumeTopics(u.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), u.topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(u.topic, 0)
	got := make(map[string]string)
	last := int64(-1)
	for last < end.Offset-1 {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset <= last {
				t.Fatalf("offset %d after %d", r.Offset, last)
			}
			last = r.Offset
			records++
			if r.Value == nil {
				delete(got, string(r.Key))
			} else {
				got[string(r.Key)] = string(r.Value)
			}
		})
	}
	want := maps.Clone(u.last)
	maps.DeleteFunc(want, func(_, v string) bool { return v == "" })
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %.20q, want %.20q", key, got[key], value)
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s was deleted, and is there again", key)
		}
	}
	return records
}

// TestCompactionUnderFailovers: a compacted topic is written while leaders stop and
// come back. In the end each key has its last value, no deleted one is there, and
// all replicas have the same files.
func TestCompactionUnderFailovers(t *testing.T) {
	c := Start(t, 3, func(cfg *node.Config) { cfg.UpkeepInterval = 50 * time.Millisecond })
	client := c.Client(kgo.MaxBufferedRecords(500), kgo.ProducerBatchMaxBytes(8<<10), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	text := func(s string) *string { return &s }
	_, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 3, map[string]*string{
		"cleanup.policy": text("compact"), "segment.bytes": text("65536"), "min.cleanable.dirty.ratio": text("0.1"),
		"delete.retention.ms": text("100"), "segment.ms": text("1000"),
	}, "table")
	if err != nil {
		t.Fatal(err)
	}
	u := &updates{client: client, topic: "table", keys: 300, last: make(map[string]string)}
	count := func() int {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.acked
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		u.run(t, stop)
	}()
	for range 3 {
		had := count()
		testetcd.Eventually(t, "updates", func() bool { return count() > had+2000 })
		leader := leaderOf(c, client, "table")
		c.Stop(leader)
		had = count()
		testetcd.Eventually(t, "updates without a node", func() bool { return count() > had+2000 })
		c.Restart(leader)
		noDifference(t, c) // while all three compact, each at its own time
	}
	close(stop)
	<-done
	// The last record has no later one with its key and is no tombstone: it stays.
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "table", Key: []byte("end"), Value: []byte("here")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	u.last["end"] = "here"
	testetcd.Eventually(t, "all replicas to have the same files", func() bool { return same(c.segments(1), c.segments(2), c.segments(3)) })
	testetcd.Eventually(t, "little to be left", func() bool { return u.check(t, c) < 600 })
	testetcd.Eventually(t, "all replicas to have the same compacted files", func() bool {
		first := c.segments(1)
		compacted := slices.ContainsFunc(slices.Collect(maps.Keys(first)), func(name string) bool { return strings.Contains(filepath.Base(name), "-") })
		return compacted && same(first, c.segments(2), c.segments(3))
	})
	verifyClean(t, c)
	t.Logf("%d updates, %d files", u.acked, len(c.segments(1)))
}

// verifyClean wants a verification to find all replicas comparable and equal.
func verifyClean(t *testing.T, c *Cluster) {
	t.Helper()
	for _, i := range noDifference(t, c).incomplete {
		t.Errorf("not compared: %+v", i)
	}
}

func noDifference(t *testing.T, c *Cluster) verdict {
	t.Helper()
	v, err := c.verify(1, node.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range v.differences {
		t.Errorf("replicas differ: %+v", d)
	}
	return v
}

func same(all ...map[string]string) bool {
	for _, m := range all {
		if len(m) == 0 || !maps.Equal(m, all[0]) {
			return false
		}
	}
	return true
}

// TestCompactedTopicWantsKeys: a record without a key is refused, as Kafka does.
func TestCompactedTopicWantsKeys(t *testing.T) {
	c := Start(t, 1, nil)
	client := c.Client()
	policy := "compact"
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &policy}, "table"); err != nil {
		t.Fatal(err)
	}
	err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "table", Value: []byte("v")}).FirstErr()
	if err == nil || !strings.Contains(err.Error(), "INVALID_RECORD") {
		t.Fatalf("error %v, want INVALID_RECORD", err)
	}
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "table", Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}
