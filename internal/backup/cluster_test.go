package backup

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

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

	t.Run("the log start rises", func(t *testing.T) { testStartRises(t, client) })
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

// testStartRises interrupts a backup, and deletes records before it goes on. What was
// deleted is not in it, whether it was copied before or not.
func testStartRises(t *testing.T, client *kgo.Client) {
	ctx := t.Context()
	adm := kadm.NewClient(client)
	produceTo := func(n int) {
		t.Helper()
		for i := range n {
			if err := client.ProduceSync(ctx, &kgo.Record{Topic: "rising", Value: fmt.Appendf(nil, "%d", i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	create(t, adm, "rising", 1)
	produceTo(30)
	for _, c := range []struct {
		ops          int // before the interruption
		copied       bool
		start, first int64
	}{{1, false, 10, 10}, {2, true, 20, 20}} {
		inner, err := Open(t.TempDir(), S3Options{})
		if err != nil {
			t.Fatal(err)
		}
		place := &watched{Place: inner, fail: fails(c.ops)}
		opts := CreateOptions{Topics: []string{"rising"}, ObjectBytes: MinObjectBytes}
		if _, err := Create(ctx, place, client, opts); !errors.Is(err, errInterrupted) {
			t.Fatalf("after %d operations: %v", c.ops, err)
		}
		if puts, _ := place.counts(); (puts > 0) != c.copied {
			t.Fatalf("%d objects were written before the interruption", puts)
		}
		place.setFail(nil)
		trim := make(kadm.Offsets)
		trim.Add(kadm.Offset{Topic: "rising", Partition: 0, At: c.start})
		if _, err := adm.DeleteRecords(ctx, trim); err != nil {
			t.Fatal(err)
		}
		m, err := Create(ctx, place, client, opts)
		if err != nil {
			t.Fatal(err)
		}
		p := m.Topics[0].Partitions[0]
		part, err := readSummed(ctx, place, m.ID, m.Topics[0], 0)
		if err != nil {
			t.Fatal(err)
		}
		if p.Start != c.start || p.End != 30 || len(part.Objects) == 0 || !c.copied && part.Objects[0].First != c.first {
			t.Errorf("from %d to %d in %+v, want them from %d on", p.Start, p.End, part.Objects, c.start)
		}
	}
}
