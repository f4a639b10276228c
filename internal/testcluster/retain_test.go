package testcluster

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
	"github.com/raftsman/raftsman/pkg/node"
)

// fill writes n records of 64 KiB that do not compress.
func fill(t *testing.T, client *kgo.Client, topic string, from, n int) {
	t.Helper()
	noise := rand.NewChaCha8([32]byte{byte(from)})
	for i := from; i < from+n; i++ {
		value := make([]byte, 64<<10)
		noise.Read(value)
		client.Produce(t.Context(), &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// segments are the segment files of a node's only replica, with their contents'
// checksums.
func (c *Cluster) segments(id int32) map[string]string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, fmt.Sprint(id), "partitions", "*", "log", "*.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	sums := make(map[string]string)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue // it was removed meanwhile
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err == nil {
			sums[filepath.Base(name)] = fmt.Sprintf("%x", h.Sum(nil))
		}
	}
	return sums
}

// TestCatchUpBySegments lets a follower miss more than the log holds. It is sent
// the segments, and they hold the same bytes as everybody's.
func TestCatchUpBySegments(t *testing.T) {
	c := Start(t, 3, func(cfg *node.Config) {
		cfg.WAL = node.WAL{FileSize: 4 << 20, SizeLimit: 32 << 20}
		cfg.SegmentBytes = 3 << 20
		cfg.MessageMaxBytes = 1 << 20
	})
	client := c.Client()
	fill(t, client, "big", 0, 20)
	leader := leaderOf(c, client, "big")
	away := leader%3 + 1
	c.Stop(away)
	fill(t, client, "big", 20, 800) // 50 MiB
	c.Restart(away)
	fill(t, client, "big", 820, 10)
	testetcd.Eventually(t, "the follower to have caught up", func() bool {
		want := c.segments(leader)
		got := c.segments(away)
		// The last segments are written in the background, at their own pace.
		names := slices.Sorted(mapKeys(want))
		for _, name := range names[:max(0, len(names)-2)] {
			if got[name] != want[name] {
				return false
			}
		}
		return len(names) > 15
	})
	// It can lead: everything is there.
	c.Stop(leader)
	testetcd.Eventually(t, "another leader", func() bool {
		id := leaderOf(c, client, "big")
		return id > 0 && id != leader
	})
	consumer := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"big": {0: kgo.NewOffset().AtStart()}}))
	for next := 0; next < 830; {
		fetches := consumer.PollFetches(t.Context())
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Key) != fmt.Sprint(next) {
				t.Fatalf("offset %d holds record %s, want %d", r.Offset, r.Key, next)
			}
			next++
		})
	}
	c.Restart(leader)
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestRetentionAndDelete: old segments go on all replicas, and all files of a
// deleted topic, also of a node that was away.
func TestRetentionAndDelete(t *testing.T) {
	c := Start(t, 3, func(cfg *node.Config) { cfg.MessageMaxBytes = 1 << 20 })
	client := c.Client()
	adm := kadm.NewClient(client)
	size, bytes := "1048576", "3000000"
	if _, err := adm.CreateTopic(t.Context(), 1, 3, map[string]*string{"segment.bytes": &size, "retention.bytes": &bytes}, "short"); err != nil {
		t.Fatal(err)
	}
	fill(t, client, "short", 0, 160) // 10 MiB
	testetcd.Eventually(t, "the log start to rise", func() bool {
		offsets, err := adm.ListStartOffsets(t.Context(), "short")
		o, ok := offsets.Lookup("short", 0)
		return err == nil && ok && o.Offset > 90
	})
	offsets, err := adm.ListStartOffsets(t.Context(), "short")
	if err != nil {
		t.Fatal(err)
	}
	start, _ := offsets.Lookup("short", 0)
	consumer := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"short": {0: kgo.NewOffset().AtStart()}}))
	consumer.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) {
		if r.Offset < start.Offset {
			t.Errorf("offset %d is below the log start %d", r.Offset, start.Offset)
		}
	})

	c.Stop(3)
	if _, err := adm.DeleteTopics(t.Context(), "short"); err != nil {
		t.Fatal(err)
	}
	gone := func(id int32) func() bool {
		return func() bool { return len(c.replicaDirs(id)) == 0 }
	}
	testetcd.Eventually(t, "removal at node 1", gone(1))
	testetcd.Eventually(t, "removal at node 2", gone(2))
	if len(c.replicaDirs(3)) != 1 {
		t.Fatal("a node that is away has removed its replica")
	}
	c.Restart(3)
	testetcd.Eventually(t, "removal at node 3", gone(3))
	// The name is free again, and a new topic begins at 0.
	fill(t, client, "again", 0, 1)
}

func (c *Cluster) replicaDirs(id int32) []string {
	names, err := filepath.Glob(filepath.Join(c.dir, fmt.Sprint(id), "partitions", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(filepath.Base(n), ".") })
}
