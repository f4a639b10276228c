package backup

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/gateway"
	"github.com/raftsman/raftsman/internal/testcluster"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// testRefusals fills a partition with gaps at its beginning, in its midst and at its
// end, over restarts of its nodes, and tries what is refused.
func testRefusals(t *testing.T, c *testcluster.Cluster) {
	ctx := t.Context()
	client := c.Client()
	create(t, kadm.NewClient(client), "gaps", 1)
	tgt := target{call: caller(c)}
	req := func(token, offset, next int64) gateway.RefillRequest {
		return gateway.RefillRequest{Topic: "gaps", Token: token, Offset: offset, Next: next}
	}
	refusedAs := func(what string, err error, status int) {
		t.Helper()
		var said *gateway.Error
		if !errors.As(err, &said) || said.Status != status {
			t.Errorf("%s: %v", what, err)
		}
	}
	fill := func(token int64, batches []byte) error {
		_, err := tgt.fill(ctx, req(token, 0, 0), batches)
		return err
	}
	refusedAs("batches before the beginning", fill(5, encoded(150, 5, 10)), gateway.Conflict)
	refusedAs("an end before the beginning", tgt.end(ctx, req(5, 0, 10)), gateway.Conflict)
	if s, err := tgt.begin(ctx, req(5, 100, 0)); err != nil || s.Token != 5 || s.Start != 100 || s.Next != 100 {
		t.Fatalf("%+v, %v", s, err)
	}
	_, err := tgt.begin(ctx, req(6, 100, 0))
	refusedAs("another backup", err, gateway.Conflict)
	if _, err := tgt.begin(ctx, req(5, 100, 0)); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := fill(5, slices.Concat(encoded(150, 5, 10), encoded(160, 3, 10))); err != nil {
		t.Fatal(err)
	}
	if err := fill(5, slices.Concat(encoded(150, 5, 10), encoded(160, 3, 10))); err != nil {
		t.Errorf("batches that are there: %v", err)
	}
	broken := encoded(170, 2, 10)
	broken[80] ^= 1
	control := encoded(170, 1, 10)
	control[22] |= 0x20
	sealed(control)
	refusedAs("batches of another backup", fill(6, encoded(170, 1, 10)), gateway.Conflict)
	refusedAs("a batch across what is there", fill(5, encoded(161, 5, 10)), gateway.Conflict)
	refusedAs("batches out of order", fill(5, slices.Concat(encoded(180, 1, 10), encoded(170, 1, 10))), gateway.Conflict)
	refusedAs("a broken batch", fill(5, broken), gateway.Invalid)
	refusedAs("a control batch", fill(5, control), gateway.Invalid)
	refusedAs("half a batch", fill(5, encoded(170, 1, 10)[:70]), gateway.Invalid)
	refusedAs("no batch", fill(5, nil), gateway.Conflict)
	refusedAs("an end with another token", tgt.end(ctx, req(6, 152, 200)), gateway.Conflict)
	refusedAs("an end before the batches'", tgt.end(ctx, req(5, 152, 162)), gateway.Conflict)

	trim := make(kadm.Offsets)
	trim.Add(kadm.Offset{Topic: "gaps", Partition: 0, At: 160})
	deleted, err := kadm.NewClient(client).DeleteRecords(ctx, trim)
	if err != nil || !errors.Is(deleted["gaps"][0].Err, kerr.NotEnoughReplicas) {
		t.Errorf("records were deleted: %+v, %v", deleted, err)
	}
	for id := int32(1); id <= 3; id++ {
		c.Stop(id)
		c.Restart(id)
	}
	// The state is in the manifest and the log, on each of them.
	if s, err := tgt.state(ctx, "gaps", 0); err != nil || s.Token != 5 || s.Start != 100 || s.Next != 163 {
		t.Fatalf("after restarts: %+v, %v", s, err)
	}
	if err := tgt.end(ctx, req(5, 152, 200)); err != nil {
		t.Fatal(err)
	}
	if err := tgt.end(ctx, req(5, 152, 200)); err != nil {
		t.Errorf("the end again: %v", err)
	}
	_, err = tgt.begin(ctx, req(5, 0, 0))
	refusedAs("a partition that is not empty", err, gateway.Conflict)
	refusedAs("batches behind the end", fill(5, encoded(300, 1, 10)), gateway.Conflict)
	r, err := client.ProduceSync(ctx, &kgo.Record{Topic: "gaps", Value: []byte("new")}).First()
	if err != nil || r.Offset != 200 {
		t.Errorf("a new record is at %d, %v", r.Offset, err)
	}
	got := read(t, client, "gaps", nil)[0]
	var bases []string
	for _, b := range got.batches {
		base, _, _ := strings.Cut(b, " ")
		bases = append(bases, base)
	}
	if got.start != 152 || got.end != 201 || !slices.Equal(bases, []string{"150", "160", "200"}) {
		t.Errorf("%d to %d, batches at %q", got.start, got.end, bases)
	}

	status, _, err := caller(c)(ctx, http.MethodPost, "", "/partition/refill/batches?topic=gaps&partition=0&token=1", "text/plain", []byte("x"))
	if err != nil || status != http.StatusUnsupportedMediaType {
		t.Errorf("as a web page may send it: %d, %v", status, err)
	}
	testetcd.Eventually(t, "a partition of the groups' topic", func() bool {
		_, err := tgt.stateAt(ctx, "", "__consumer_offsets", 0)
		return err == nil
	})
	_, err = tgt.begin(ctx, gateway.RefillRequest{Topic: "__consumer_offsets", Token: 1})
	refusedAs("the groups' topic", err, gateway.Invalid)
}

// oldProducer goes on where a producer of the cluster that was backed up had been: it
// is told that its sequence is not known, and not that its batch is a duplicate.
func oldProducer(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	client := c.Client()
	batch := encoded(0, 1, 10)
	copy(batch[43:], []byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 9}) // producer 1, epoch 0, sequence 9
	batch = sealed(batch)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "trimmed"
	details, err := kadm.NewClient(client).ListTopics(t.Context(), "trimmed")
	if err != nil {
		t.Fatal(err)
	}
	topic.TopicID = details["trimmed"].ID
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = batch
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), client.Broker(int(details["trimmed"].Partitions[0].Leader)))
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); !errors.Is(err, kerr.OutOfOrderSequenceNumber) {
		t.Errorf("a producer from before the restore: %v", err)
	}
}
