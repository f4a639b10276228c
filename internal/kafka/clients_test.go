package kafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/config"
)

func (r *rig) client(opts ...kgo.Opt) *kgo.Client {
	r.t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(r.addr), kgo.AllowAutoTopicCreation()}, opts...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A stock client writes and reads, with every codec, idempotent or not.
func TestFranzGo(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{
		"none":   {kgo.ProducerBatchCompression(kgo.NoCompression())},
		"gzip":   {kgo.ProducerBatchCompression(kgo.GzipCompression())},
		"snappy": {kgo.ProducerBatchCompression(kgo.SnappyCompression())},
		"lz4":    {kgo.ProducerBatchCompression(kgo.Lz4Compression())},
		"zstd":   {kgo.ProducerBatchCompression(kgo.ZstdCompression())},
		"acks1":  {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()), kgo.MaxProduceRequestsInflightPerBroker(20)},
		"acks0":  {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck())},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 2000
			r := newRig(t, nil)
			ctx := deadline(t)
			w := r.client(opts...)
			for i := range n {
				w.Produce(ctx, &kgo.Record{Topic: "events", Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
					if err != nil {
						t.Error("produce:", err)
					}
				})
			}
			if err := w.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			// franz-go has one fetch under way per broker: one that began with an
			// empty partition alone holds up the others for as long as it waits.
			c := r.client(kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(time.Second))
			seen := make(map[string]bool)
			for len(seen) < n {
				fs := c.PollFetches(ctx)
				if err := fs.Err(); err != nil {
					t.Fatal(len(seen), err)
				}
				fs.EachRecord(func(rec *kgo.Record) { seen[string(rec.Value)] = true })
			}
		})
	}
}

// A consumer at the end gets what is written next, at once.
func TestFranzGoTail(t *testing.T) {
	r := newRig(t, nil)
	ctx := deadline(t)
	r.back.mustCreate("t", 3)
	c := r.client(kgo.ConsumeTopics("t"), kgo.FetchMaxWait(10*time.Second))
	w := r.client()
	for i := range 20 {
		if err := w.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		fs := c.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		if recs := fs.Records(); len(recs) != 1 || string(recs[0].Value) != fmt.Sprint(i) {
			t.Fatalf("record %d: %v", i, recs)
		}
	}
}

func TestKadm(t *testing.T) {
	r := newRig(t, nil)
	ctx := deadline(t)
	client := r.client()
	adm := kadm.NewClient(client)
	made, err := adm.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": kadm.StringPtr("1000")}, "x")
	if err != nil || made.NumPartitions != 3 {
		t.Fatal(made, err)
	}
	if _, err := adm.CreateTopic(ctx, 3, 1, nil, "x"); !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Error("again:", err)
	}
	if _, err := adm.CreatePartitions(ctx, 2, "x"); err != nil {
		t.Error("partitions:", err)
	}
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "x", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string]func(context.Context, ...string) (kadm.ListedOffsets, error){
		"start": adm.ListStartOffsets, "end": adm.ListEndOffsets, "committed": adm.ListCommittedOffsets,
		"max": adm.ListMaxTimestampOffsets,
	} {
		offs, err := list(ctx, "x")
		if err == nil {
			err = offs.Error()
		}
		if err != nil || len(offs["x"]) != 5 {
			t.Errorf("%s offsets: %v, %v", name, offs, err)
		}
	}
	configs, err := adm.DescribeTopicConfigs(ctx, "x")
	if err != nil || len(configs) != 1 || len(configs[0].Configs) != len(config.TopicNames()) {
		t.Error("configs:", configs, err)
	}
	meta, err := adm.Metadata(ctx)
	if err != nil || meta.Cluster != "mem-cluster" || len(meta.Topics) != 1 || meta.Controller != 1 {
		t.Error("metadata:", meta, err)
	}
	if dels, err := adm.DeleteTopics(ctx, "x", "y"); err != nil || dels["x"].Err != nil || !errors.Is(dels["y"].Err, kerr.UnknownTopicOrPartition) {
		t.Error("delete:", dels, err)
	}
}

// A transactional client fails with a clear error instead of retrying.
func TestFranzGoTransactions(t *testing.T) {
	r := newRig(t, nil)
	c := r.client(kgo.TransactionalID("tx"))
	ctx := deadline(t)
	err := c.BeginTransaction()
	if err == nil {
		err = c.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr()
	}
	if !errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		t.Error(err)
	}
}
