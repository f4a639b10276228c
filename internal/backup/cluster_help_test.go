package backup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/pkg/node"
)

// start starts three nodes that look after their topics all the time.
func start(t *testing.T) *testcluster.Cluster {
	return testcluster.Start(t, 3, func(cfg *node.Config) { cfg.UpkeepInterval = 100 * time.Millisecond })
}

// caller asks the nodes of a cluster.
func caller(c *testcluster.Cluster) Caller {
	return func(ctx context.Context, method, addr, path, contentType string, body []byte) (int, []byte, error) {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+cmp.Or(addr, c.Member(1).Node.HTTPAddr())+path, bytes.NewReader(body))
		if err != nil {
			return 0, nil, err
		}
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, nil, err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		return resp.StatusCode, answer, err
	}
}

func create(t *testing.T, adm *kadm.Client, topic string, partitions int32, config ...string) {
	t.Helper()
	set := make(map[string]*string)
	for _, kv := range config {
		k, v, _ := strings.Cut(kv, "=")
		set[k] = &v
	}
	if _, err := adm.CreateTopic(t.Context(), partitions, 3, set, topic); err != nil {
		t.Fatal(err)
	}
}

// produce writes records with keys, values, headers and times of all sorts, in small
// batches, and waits for them.
func produce(t *testing.T, client *kgo.Client, topic string, n, keys int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		record := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key-%d", i%keys), Timestamp: time.UnixMilli(time.Now().UnixMilli() - r.Int64N(1000))}
		if r.IntN(5) > 0 {
			record.Value = make([]byte, r.IntN(3000)) // no codec makes it smaller
			for j := range record.Value {
				record.Value[j] = byte(r.Uint32())
			}
		}
		if i%7 == 0 {
			record.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte("v")}, {Key: "none"}}
		}
		client.Produce(t.Context(), record, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
		if i%20 == 0 {
			if err := client.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// stored is what a client can see of a partition.
type stored struct {
	start, end int64
	batches    []string // base offset, and the bytes without epoch
	records    int
}

// read reads a topic's batches below some ends (all, for nil) as they are stored.
func read(t *testing.T, client *kgo.Client, topic string, ends []int64) (all []stored) {
	t.Helper()
	src := newSource(client)
	details, err := src.adm.ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	id := uuidOf(details[topic].ID)
	for p := range details[topic].Partitions.Sorted() {
		start, end, err := src.bounds(t.Context(), topic, int32(p))
		if err != nil {
			t.Fatal(err)
		}
		if ends != nil {
			end = ends[p]
		}
		s := stored{start: start, end: end}
		for at := start; at < end; {
			data, _, _, err := src.fetch(t.Context(), topic, id, int32(p), at)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) == 0 {
				break // a compacted partition's end
			}
			for rest := data; len(rest) > 0 && at < end; {
				var b seglog.Batch
				if b, rest, err = seglog.NextBatch(rest); err != nil {
					break
				}
				if at = b.LastOffset() + 1; b.BaseOffset() < end {
					s.batches = append(s.batches, fmt.Sprint(b.BaseOffset(), " ", sum(b[16:])))
					s.records += int(b.NumRecords())
				}
			}
		}
		all = append(all, s)
	}
	return all
}

func compare(t *testing.T, what string, got, want []stored) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d partitions, want %d", what, len(got), len(want))
	}
	for p := range want {
		if got[p].start != want[p].start || got[p].end != want[p].end || !slices.Equal(got[p].batches, want[p].batches) {
			t.Errorf("%s/%d: offsets %d to %d in %d batches, want %d to %d in %d, or they are others", what, p,
				got[p].start, got[p].end, len(got[p].batches), want[p].start, want[p].end, len(want[p].batches))
		}
	}
}

func endsOf(m Manifest, topic string) (ends []int64) {
	for _, t := range m.Topics {
		if t.Name == topic {
			for _, p := range t.Partitions {
				ends = append(ends, p.End)
			}
		}
	}
	return ends
}

var errInterrupted = errors.New("interrupted")

// fails fails after so many operations.
func fails(n int) func() error {
	return func() error {
		if n--; n < 0 {
			return errInterrupted
		}
		return nil
	}
}

// until repeats what is interrupted at random points until it gets through.
func until(t *testing.T, place *watched, what string, do func() error) (interruptions int) {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 7))
	defer place.setFail(nil)
	for limit := 1; ; limit += 2 + r.IntN(8) {
		place.setFail(fails(limit))
		err := do()
		if err == nil {
			return interruptions
		}
		if !errors.Is(err, errInterrupted) {
			t.Fatalf("%s: %v", what, err)
		}
		interruptions++
	}
}
