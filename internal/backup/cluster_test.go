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
	"github.com/raftsman/raftsman/internal/testetcd"
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

// TestBackupAndRestore backs a cluster up while it is written to, with interruptions,
// twice, and restores it into another one, with interruptions: the same batches at the
// same offsets, groups where they were, and producers that go on.
func TestBackupAndRestore(t *testing.T) {
	ctx := t.Context()
	from := start(t)
	client := from.Client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerBatchMaxBytes(32<<10), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	adm := kadm.NewClient(client)
	create(t, adm, "orders", 4, "segment.bytes=65536")
	create(t, adm, "trimmed", 1, "max.message.bytes=200000")
	create(t, adm, "compacted", 1, "cleanup.policy=compact", "segment.bytes=16384", "min.cleanable.dirty.ratio=0", "delete.retention.ms=0")
	create(t, adm, "empty", 2)
	produce(t, client, "orders", 1500, 1000)
	produce(t, client, "trimmed", 300, 10)
	produce(t, client, "compacted", 400, 17)
	compactedOnce(t, client, adm)
	trim := make(kadm.Offsets)
	trim.Add(kadm.Offset{Topic: "trimmed", Partition: 0, At: 131})
	if _, err := adm.DeleteRecords(ctx, trim); err != nil {
		t.Fatal(err)
	}
	committed := make(kadm.Offsets)
	committed.Add(kadm.Offset{Topic: "orders", Partition: 2, At: 41, LeaderEpoch: 1, Metadata: "half"})
	committed.Add(kadm.Offset{Topic: "trimmed", Partition: 0, At: 200})
	if err := adm.CommitAllOffsets(ctx, "billing", committed); err != nil {
		t.Fatal(err)
	}

	// A writer goes on all the time, idempotent as all of them are.
	stop, stopped := make(chan struct{}), make(chan struct{})
	writer := from.Client()
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := writer.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: fmt.Appendf(nil, "under way %d", i)}).FirstErr(); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	s3 := s3Server(t, "backups")
	inner, err := Open("s3://backups/test", s3)
	if err != nil {
		t.Fatal(err)
	}
	place := &watched{Place: inner}
	opts := CreateOptions{ObjectBytes: MinObjectBytes}
	var first Manifest
	n := until(t, place, "backup", func() error {
		first, err = Create(ctx, place, client, opts)
		return err
	})
	if n == 0 {
		t.Error("the backup was never interrupted")
	}
	close(stop)
	<-stopped
	puts, _ := place.counts()
	if _, _, size := first.Totals(); size == 0 || puts < 10 || puts > int(size/(MinObjectBytes/4))+40 {
		t.Errorf("%d objects were written for %d bytes, with %d interruptions", puts, size, n)
	}
	// One that was interrupted is no second backup.
	if all, err := List(ctx, place); err != nil || len(all) != 1 {
		t.Fatalf("%d backups, %v", len(all), err)
	}

	// What came since, and nothing else, is in the next one.
	produce(t, client, "orders", 100, 10)
	place.counts()
	second, err := Create(ctx, place, client, opts)
	if err != nil {
		t.Fatal(err)
	}
	if puts, gets := place.counts(); puts == 0 || puts > 6 || gets > 0 {
		t.Errorf("the second backup wrote %d objects and read %d", puts, gets)
	}
	third, err := Create(ctx, place, client, CreateOptions{Topics: []string{"ord*", "trimmed"}, NoGroups: true, ObjectBytes: MinObjectBytes})
	if err != nil {
		t.Fatal(err)
	}
	if puts, gets := place.counts(); puts != 0 || gets != 0 || len(third.Topics) != 2 || len(third.Groups) != 0 {
		t.Errorf("a backup of nothing new wrote %d objects and read %d, of %d topics", puts, gets, len(third.Topics))
	}
	for _, m := range []Manifest{first, second, third} {
		if err := Verify(ctx, place, m, VerifyOptions{Damage: func(d *DamageError) { t.Errorf("backup %s: %v", m.ID, d) }}); err != nil {
			t.Fatal(err)
		}
	}

	into := start(t)
	t.Run("restore", func(t *testing.T) { testRestore(t, place, client, into, first, second) })
	t.Run("flipped bytes", func(t *testing.T) { testFlipped(t, place, client, into, second) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, into) })
}

// compactedOnce waits until compaction has left gaps, and then has it rest.
func compactedOnce(t *testing.T, client *kgo.Client, adm *kadm.Client) {
	t.Helper()
	testetcd.Eventually(t, "a compaction", func() bool {
		all := read(t, client, "compacted", nil)
		return len(all) == 1 && all[0].end == 400 && all[0].records < 200
	})
	never := "9000000000000"
	if _, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "min.compaction.lag.ms", Value: &never}}, "compacted"); err != nil {
		t.Fatal(err)
	}
}

func testRestore(t *testing.T, place *watched, source *kgo.Client, into *testcluster.Cluster, first, second Manifest) {
	ctx := t.Context()
	client := into.Client()
	adm := kadm.NewClient(client)
	refused := 0
	n := until(t, place, "restore", func() error {
		_, err := Restore(ctx, place, second, client, caller(into), RestoreOptions{Work: Work{Concurrency: 2}})
		if err != nil && refused == 0 {
			refused += refusedWhileRestoring(t, into)
		}
		return err
	})
	if n == 0 || refused == 0 {
		t.Errorf("it was interrupted %d times, and a producer refused %d times", n, refused)
	}
	for _, topic := range []string{"orders", "trimmed", "compacted", "empty"} {
		compare(t, topic, read(t, client, topic, nil), read(t, source, topic, endsOf(second, topic)))
	}
	if gaps := read(t, client, "compacted", nil)[0]; len(gaps.batches) == 0 || gaps.end != 400 || gaps.records >= 200 {
		t.Errorf("compacted: %d records up to %d", gaps.records, gaps.end)
	}
	if o := read(t, client, "trimmed", nil)[0]; o.start != 131 || o.end != 300 {
		t.Errorf("trimmed goes from %d to %d", o.start, o.end)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, "trimmed", "compacted")
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]map[string]string{
		"trimmed": {"max.message.bytes": "200000"}, "compacted": {"cleanup.policy": "compact", "segment.bytes": "16384", "min.compaction.lag.ms": "9000000000000"},
	} {
		rc, err := configs.On(topic, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if got := changed(rc)[k]; got != v {
				t.Errorf("%s: %s is %q, want %q", topic, k, got, v)
			}
		}
	}
	offsets, err := adm.FetchOffsets(ctx, "billing")
	if err != nil {
		t.Fatal(err)
	}
	half, _ := offsets.Lookup("orders", 2)
	trimmed, _ := offsets.Lookup("trimmed", 0)
	if half.At != 41 || half.Metadata != "half" || trimmed.At != 200 {
		t.Errorf("the group has %+v", offsets)
	}

	// The same again changes nothing.
	if _, err := Restore(ctx, place, second, client, caller(into), RestoreOptions{}); err != nil {
		t.Error(err)
	}
	// An older one does not fit in what is there.
	if _, err := Restore(ctx, place, first, client, caller(into), RestoreOptions{Topics: []string{"empty"}, Rename: map[string]string{"empty": "trimmed"}}); err == nil {
		t.Error("two partitions were restored into one")
	}

	// New producers have ids that nobody had, and go on behind what was restored.
	var ids int64
	for _, topic := range second.Topics {
		for _, p := range topic.Partitions {
			ids = max(ids, p.MaxProducerID)
		}
	}
	for range 3 {
		fresh := into.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
		r, err := fresh.ProduceSync(ctx, &kgo.Record{Topic: "trimmed", Partition: 0, Value: []byte("new")}).First()
		if err != nil || r.Offset < 300 || r.ProducerID <= ids {
			t.Errorf("offset %d by producer %d, %v; the backup has ids up to %d", r.Offset, r.ProducerID, err, ids)
		}
	}
	consumed(t, into, "trimmed", 131, 303)
	oldProducer(t, into)
	status, answer, err := caller(into)(ctx, http.MethodPost, "", "/cluster/verify", "application/json", []byte("{}"))
	if err != nil || status != http.StatusOK || !strings.Contains(string(answer), `"done"`) || strings.Contains(string(answer), `"difference"`) {
		t.Errorf("cluster verify: %d %s %v", status, answer, err)
	}
}

// refusedWhileRestoring produces to a partition that is being filled.
func refusedWhileRestoring(t *testing.T, into *testcluster.Cluster) int {
	t.Helper()
	tgt := target{call: caller(into)}
	for p := range int32(4) {
		s, err := tgt.stateAt(t.Context(), "", "orders", p)
		if err == nil && s.LeaderHTTP != "" {
			s, err = tgt.stateAt(t.Context(), s.LeaderHTTP, "orders", p)
		}
		if err != nil || s.Token == 0 {
			continue
		}
		client := into.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordRetries(2), kgo.DisableIdempotentWrite(), kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond }))
		r, err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Partition: p, Value: []byte("too early")}).First()
		if err == nil {
			t.Fatalf("orders/%d took a record at offset %d while it was restored", p, r.Offset)
		}
		return 1
	}
	return 0
}

// consumed reads a partition with a consumer.
func consumed(t *testing.T, c *testcluster.Cluster, topic string, from, to int64) {
	t.Helper()
	client := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	for next := from; next < to; {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != next {
				t.Fatalf("offset %d, want %d", r.Offset, next)
			}
			next++
		})
	}
}

// testFlipped flips bytes at random places: a restore is refused and says where, and
// goes on when the byte is right again.
func testFlipped(t *testing.T, place *watched, source *kgo.Client, into *testcluster.Cluster, m Manifest) {
	ctx := t.Context()
	client := into.Client()
	r := rand.New(rand.NewPCG(3, 4))
	var objects []string
	err := place.List(ctx, "", func(name string, _ int64) error {
		if strings.HasPrefix(name, "backups/"+m.ID) && !strings.Contains(name, "/plan-") || strings.HasPrefix(name, "data/") && strings.Contains(name, m.Topics[2].ID) {
			objects = append(objects, name)
		}
		return nil
	})
	if err != nil || m.Topics[2].Name != "orders" || len(objects) < 10 {
		t.Fatalf("%d objects of %s, %v", len(objects), m.Topics[2].Name, err)
	}
	opts := RestoreOptions{Topics: []string{"orders"}, Rename: map[string]string{"orders": "flipped"}, NoGroups: true}
	restore := func() error {
		m, err := Find(ctx, place, m.ID)
		if err == nil {
			_, err = Restore(ctx, place, m, client, caller(into), opts)
		}
		return err
	}
	refused := 0
	for i := range 12 {
		name := objects[r.IntN(len(objects))]
		if i == 0 {
			name = objects[len(objects)-1] // not all of it is restored by then
		}
		good, err := place.Place.Get(ctx, name, maxObject)
		if err != nil {
			t.Fatal(err)
		}
		at := r.IntN(len(good))
		bad := slices.Clone(good)
		bad[at] ^= 0x10
		if err := place.Place.Put(ctx, name, bad); err != nil {
			t.Fatal(err)
		}
		var found []*DamageError
		var damage *DamageError
		have, err := Find(ctx, place, m.ID)
		if errors.As(err, &damage) {
			found = append(found, damage)
		} else if err := Verify(ctx, place, have, VerifyOptions{Damage: func(d *DamageError) { found = append(found, d) }}); err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0].Object != name || int64(at) < found[0].From || int64(at) >= found[0].To {
			t.Errorf("byte %d of %s was flipped: %v", at, name, found)
		}
		if strings.HasPrefix(name, "data/") && (found[0].Topic != "orders" || found[0].Next <= found[0].First) {
			t.Errorf("byte %d of %s was flipped: %+v", at, name, found[0])
		}
		if i < 3 { // later ones may be restored by then
			if err := restore(); errors.As(err, &damage) && damage.Object == name {
				refused++
			} else if err != nil {
				t.Errorf("byte %d of %s was flipped: %v", at, name, err)
			}
		}
		if err := place.Place.Put(ctx, name, good); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("no restore was refused")
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	compare(t, "flipped", read(t, client, "flipped", nil), read(t, source, "orders", endsOf(m, "orders")))
}
