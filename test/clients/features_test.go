package clients

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/raftsman/raftsman/test/clients/agent"
	"github.com/twmb/franz-go/pkg/kgo"
)

// trial is one client trying one feature, with a topic name and a group name of
// its own.
type trial struct {
	*cluster
	client string
	topic  string
	group  string
}

func (tr trial) job(op string) agent.Job {
	return agent.Job{Op: op, Brokers: tr.kafka, Topic: tr.topic, Group: tr.group, Count: 1, Session: sessionTimeout}
}

func (tr trial) do(ctx context.Context, j agent.Job) (agent.Event, error) {
	return do(ctx, tr.client, j)
}

// read reads the first n records of partition 0 with franz-go.
func (tr trial) read(ctx context.Context, n int) ([]*kgo.Record, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(tr.kafka...), kgo.FetchMaxPartitionBytes(8<<20), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{tr.topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var out []*kgo.Record
	for len(out) < n {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%d records of %d: %w", len(out), n, err)
		}
		out = append(out, fetches.Records()...)
	}
	return out, nil
}

// compressible are values that any codec makes smaller.
func compressible() (out []agent.Record) {
	for i := range 20 {
		out = append(out, agent.Record{Value: bytes.Repeat(fmt.Appendf(nil, "%02d ", i), 200)})
	}
	return out
}

// recent is an hour ago, in milliseconds: too young for retention to delete.
func recent() int64 { return time.Now().Add(-time.Hour).UnixMilli() }

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"} // by their number in a batch's attributes

// produceCodec has the client write batches that really are of the codec.
func produceCodec(number int) feature {
	return func(ctx context.Context, tr trial) error {
		if err := tr.create(ctx, tr.topic, 1); err != nil {
			return err
		}
		j := tr.job("produce")
		j.Codec, j.Records = codecs[number], compressible()
		if _, err := tr.do(ctx, j); err != nil {
			return err
		}
		got, err := tr.read(ctx, len(j.Records))
		if err != nil {
			return err
		}
		for i, r := range got {
			if !bytes.Equal(r.Value, j.Records[i].Value) {
				return fmt.Errorf("record %d is %.50q (%d bytes), want %.50q (%d bytes)", i, r.Value, len(r.Value), j.Records[i].Value, len(j.Records[i].Value))
			}
			if int(r.Attrs.CompressionType()) != number {
				return fmt.Errorf("record %d has codec %s", i, codecs[r.Attrs.CompressionType()])
			}
		}
		return nil
	}
}

// consumeCodec has the client read what franz-go wrote with the codec.
func consumeCodec(number int) feature {
	return func(ctx context.Context, tr trial) error {
		if err := tr.create(ctx, tr.topic, 1); err != nil {
			return err
		}
		j := tr.job("produce")
		j.Codec, j.Records = codecs[number], compressible()
		if _, err := do(ctx, "franz-go", j); err != nil {
			return err
		}
		return tr.reads(ctx, 0, j.Records)
	}
}

// reads has the client read the records from an offset on. Times are compared
// where want has them.
func (tr trial) reads(ctx context.Context, offset int64, want []agent.Record) error {
	j := tr.job("consume")
	j.Offset, j.Count = offset, len(want)
	e, err := tr.do(ctx, j)
	if err != nil {
		return err
	}
	if len(e.Records) < len(want) {
		return fmt.Errorf("%d records, want %d", len(e.Records), len(want))
	}
	for i, w := range want {
		g := e.Records[i]
		if w.Offset = offset + int64(i); w.Time == 0 {
			g.Time = 0
		}
		if !reflect.DeepEqual(g, w) {
			return fmt.Errorf("record %d is %.200v, want %.200v", i, g, w)
		}
	}
	return nil
}

// fields writes and reads keys, headers and null values; with times: the
// producer's timestamps too.
func fields(times bool) feature {
	return func(ctx context.Context, tr trial) error {
		if err := tr.create(ctx, tr.topic, 1); err != nil {
			return err
		}
		j := tr.job("produce")
		j.Records = []agent.Record{
			{Key: []byte("a"), Value: []byte("1"), Headers: []agent.Header{{Key: "h", Value: []byte("x")}, {Key: "h", Value: []byte("y")}}},
			{Key: []byte("b")},
			{Value: []byte("3")},
		}
		if times {
			for i := range j.Records {
				j.Records[i].Time = recent() + int64(1000*i)
			}
		}
		if _, err := tr.do(ctx, j); err != nil {
			return err
		}
		if err := (trial{cluster: tr.cluster, client: "franz-go", topic: tr.topic}).reads(ctx, 0, j.Records); err != nil {
			return err
		}
		return tr.reads(ctx, 0, j.Records)
	}
}

// idempotent has the client write with a producer id.
func idempotent(ctx context.Context, tr trial) error {
	if err := tr.create(ctx, tr.topic, 1); err != nil {
		return err
	}
	j := tr.job("produce")
	j.Idempotent, j.Records = true, compressible()
	if _, err := tr.do(ctx, j); err != nil {
		return err
	}
	got, err := tr.read(ctx, len(j.Records))
	if err != nil {
		return err
	}
	for i, r := range got {
		if r.ProducerID < 0 || r.ProducerEpoch < 0 {
			return fmt.Errorf("record %d has producer %d epoch %d", i, r.ProducerID, r.ProducerEpoch)
		}
	}
	return nil
}

// offsets has the client look up offsets by time, the first and the last, and
// read from the middle.
func offsets(ctx context.Context, tr trial) error {
	if err := tr.create(ctx, tr.topic, 1); err != nil {
		return err
	}
	j := tr.job("produce")
	began := recent()
	for i := range 10 {
		j.Records = append(j.Records, agent.Record{Value: fmt.Append(nil, i), Time: began + int64(1000*i)})
	}
	if _, err := do(ctx, "franz-go", j); err != nil {
		return err
	}
	for _, c := range []struct{ time, want int64 }{{-2, 0}, {-1, 10}, {began + 4000, 4}, {began + 4001, 5}, {1, 0}} {
		ask := tr.job("offset_at")
		ask.Time = c.time
		e, err := tr.do(ctx, ask)
		if err != nil {
			return err
		}
		if e.Count != c.want {
			return fmt.Errorf("offset at %d is %d, want %d", c.time, e.Count, c.want)
		}
	}
	return tr.reads(ctx, 6, j.Records[6:])
}

// large has the client write and read messages just below max.message.bytes,
// and be told no above it.
func large(ctx context.Context, tr trial) error {
	if err := tr.create(ctx, tr.topic, 1); err != nil {
		return err
	}
	j := tr.job("produce")
	const limit = 1048588 // the default, of Kafka too
	j.MaxBytes = 2 << 20
	j.Records = []agent.Record{{Value: bytes.Repeat([]byte("x"), limit-200)}}
	if _, err := tr.do(ctx, j); err != nil {
		return err
	}
	if got, err := tr.read(ctx, 1); err != nil || len(got[0].Value) != limit-200 {
		return fmt.Errorf("%d records: %w", len(got), err)
	}
	if tr.client == "rsyslog" {
		return nil // it reads nothing, and keeps what is refused to itself
	}
	if err := tr.reads(ctx, 0, j.Records); err != nil {
		return err
	}
	j.Records[0].Value = bytes.Repeat([]byte("x"), limit+200)
	bounded, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := tr.do(bounded, j); err == nil || bounded.Err() != nil {
		return fmt.Errorf("a message above the limit: %v, want to be refused", err)
	}
	return nil
}

// autoCreate has the client write to a topic that is not there yet.
func autoCreate(ctx context.Context, tr trial) error {
	j := tr.job("produce")
	j.Records = []agent.Record{{Value: []byte("first")}}
	if _, err := tr.do(ctx, j); err != nil {
		return err
	}
	_, err := tr.read(ctx, 1)
	return err
}
