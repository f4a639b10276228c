package torture

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/raftsman/raftsman/internal/torture/history"
)

// writer numbers a client's records.
type writer struct {
	*client
	once bool
	next int64
}

// begin notes that records of one batch are about to be sent.
func (w *writer) begin(p partition, n int, millis int64) (records []history.Record, ids []int64) {
	for range n {
		records = append(records, history.Record{Client: w.name, N: w.next})
		ids = append(ids, w.hist.Begin(history.Event{
			Op: history.Produce, Client: w.name, Topic: p.topic, Partition: p.index, N: w.next, Once: w.once, Millis: millis,
		}))
		w.next++
	}
	return records, ids
}

func (w *writer) end(ids []int64, offset int64, is history.Outcome, err error, forgotten bool) {
	for i, id := range ids {
		e := history.Event{Is: is, Text: text(err), Out: forgotten}
		if is == history.OK {
			e.Offset = offset + int64(i)
		}
		w.hist.End(id, e)
	}
}

// plain sends batches without a producer id, each once, with acks=all or 1. Now and
// then one that must be refused: its checksum is wrong.
func (r *run) plain(ctx context.Context, name string, rnd *rand.Rand) error {
	c, err := r.client(name)
	if err != nil {
		return err
	}
	defer c.close()
	w := writer{client: c}
	for r.pace(ctx, rnd) {
		p, millis := r.pick(rnd), time.Now().UnixMilli()
		records, ids := w.begin(p, 1+rnd.IntN(5), millis)
		b := batch(nil, 0, millis, records...)
		if rnd.IntN(50) == 0 {
			b[len(b)-1] ^= 1
		}
		offset, is, err := w.append(r.grace, p, []int16{-1, 1}[rnd.IntN(2)], b)
		w.end(ids, offset, is, err, false)
		if err != nil && !wait(ctx, pause) {
			return nil
		}
	}
	return nil
}

// stubborn is an idempotent producer by hand: it sends each batch until it is
// acknowledged, under the same sequence number, to whoever leads.
func (r *run) stubborn(ctx context.Context, name string, rnd *rand.Rand) error {
	c, err := r.client(name)
	if err != nil {
		return err
	}
	defer c.close()
	w := writer{client: c, once: true}
	var s *session
	sequences := make(map[partition]int32)
	for r.pace(ctx, rnd) {
		if s == nil {
			if s, err = w.initSession(ctx); err != nil {
				if !wait(ctx, pause) {
					return nil
				}
				continue
			}
			clear(sequences)
		}
		p, millis := r.pick(rnd), time.Now().UnixMilli()
		records, ids := w.begin(p, 1+rnd.IntN(5), millis)
		b := batch(s, sequences[p], millis, records...)
		sequences[p] += int32(len(records))
		if !w.insist(r.grace, p, ids, b) {
			s = nil
		}
	}
	return nil
}

// insist sends a batch until its outcome is known; false: the session is of no more use.
func (w *writer) insist(ctx context.Context, p partition, ids []int64, b []byte) bool {
	for {
		offset, is, err := w.append(ctx, p, -1, b)
		var code *kerr.Error
		switch {
		case is == history.OK && offset >= 0:
			w.end(ids, offset, is, nil, false)
			return true
		case errors.Is(err, kerr.OutOfOrderSequenceNumber), errors.Is(err, kerr.UnknownProducerID), errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.InvalidProducerIDMapping):
			w.end(ids, 0, history.Unknown, err, true)
			return false
		case is == history.OK, errors.As(err, &code) && !code.Retriable: // a duplicate without an offset, say
			w.end(ids, 0, history.Unknown, err, false)
			return false
		}
		if !wait(ctx, pause) {
			w.end(ids, 0, history.Unknown, err, false)
			return false
		}
	}
}

func (c *client) initSession(ctx context.Context) (*session, error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := req.RequestWith(ctx, c.kafka)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, err
	}
	return &session{resp.ProducerID, resp.ProducerEpoch}, nil
}

// franz is franz-go's idempotent producer, with several requests in flight.
func (r *run) franz(ctx context.Context, name string, rnd *rand.Rand) error {
	k, err := kgo.NewClient(append(r.options(name),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(4096),
		kgo.ProduceRequestTimeout(requestTimeout), kgo.RetryTimeout(time.Minute),
		kgo.ProducerBatchCompression([]kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}[rnd.IntN(3)]))...)
	if err != nil {
		return err
	}
	defer k.Close()
	w := writer{client: &client{name: name, hist: r.hist}, once: true}
	var flying sync.WaitGroup
	defer flying.Wait()
	for r.pace(ctx, rnd) {
		p, now := r.pick(rnd), time.Now()
		for range 1 + rnd.IntN(5) {
			records, ids := w.begin(p, 1, now.UnixMilli())
			flying.Add(1)
			k.Produce(r.grace, &kgo.Record{Topic: p.topic, Partition: p.index, Timestamp: now, Value: value(records[0])}, func(got *kgo.Record, err error) {
				defer flying.Done()
				is := history.OK
				if err != nil {
					is = history.Unknown
				}
				w.end(ids, got.Offset, is, err, false)
			})
		}
	}
	return nil
}
