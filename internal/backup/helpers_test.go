package backup

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// encoded is a batch of so many records, as a cluster stores it.
func encoded(base int64, records, valueLen int) []byte {
	var data []byte
	for i := range records {
		r := kmsg.Record{OffsetDelta: int32(i), Key: []byte{byte(i)}, Value: make([]byte, valueLen)}
		body := r.AppendTo(nil)[1:]
		r.Length = int32(len(body))
		data = r.AppendTo(data)
	}
	b := kmsg.RecordBatch{
		FirstOffset: base, PartitionLeaderEpoch: 3, Magic: 2, LastOffsetDelta: int32(records - 1), FirstTimestamp: 1000, MaxTimestamp: 1000,
		ProducerID: 7, FirstSequence: 0, NumRecords: int32(records), Records: data,
	}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	return sealed(b.AppendTo(nil))
}

// sealed makes a batch's checksum right.
func sealed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return b
}

// object is some batches, the last of which has a gap before it, and their bounds.
func object(t testing.TB) (data []byte, o Object, starts []int) {
	t.Helper()
	base := int64(100)
	for i := range 40 {
		starts = append(starts, len(data))
		if i == 39 {
			base += 50
		}
		data = append(data, encoded(base, 1+i%5, 5000*(1+i%3))...)
		base += int64(1 + i%5)
	}
	o, err := describe(data)
	if err != nil {
		t.Fatal(err)
	}
	return data, o, append(starts, len(data))
}

// watched is a Place that counts what is done there, and fails when it is told to.
type watched struct {
	Place
	mu         sync.Mutex
	puts, gets int // of batches
	fail       func() error
}

func (w *watched) note(name string, n *int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		if err := w.fail(); err != nil {
			return err
		}
	}
	if strings.HasPrefix(name, "data/") {
		*n++
	}
	return nil
}

func (w *watched) Put(ctx context.Context, name string, data []byte) error {
	if err := w.note(name, &w.puts); err != nil {
		return err
	}
	return w.Place.Put(ctx, name, data)
}

func (w *watched) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	if err := w.note(name, &w.gets); err != nil {
		return nil, err
	}
	return w.Place.Get(ctx, name, limit)
}

// counts returns how many batches' objects were written and read since the last call.
func (w *watched) counts() (puts, gets int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	puts, gets = w.puts, w.gets
	w.puts, w.gets = 0, 0
	return puts, gets
}

// setFail sets what fails, nil for nothing.
func (w *watched) setFail(fail func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = fail
}
