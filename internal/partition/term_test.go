package partition

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/seglog"
	"github.com/raftsman/raftsman/internal/vfs"
)

// TestTermBatches: batches that were meant for a term are void in another.
func TestTermBatches(t *testing.T) {
	writer := seglog.NewWriter(seglog.WriterOptions{})
	defer writer.Close()
	quiet := slog.New(slog.DiscardHandler)
	p := &Partition{
		cfg:    Config{Dir: "p", Segments: seglog.Options{FS: vfs.NewMem(), Writer: writer, Logger: quiet}},
		logger: quiet, state: state{producers: newProducers(), segmentBytes: 1 << 20},
	}
	if err := p.cfg.Segments.FS.MkdirAll("p"); err != nil {
		t.Fatal(err)
	}
	entry := func(index, term uint64, c command) *outcome {
		return p.ApplyBatch([]*raft.Log{{
			Type: raft.LogCommand, Index: index, Term: term, Data: append([]byte(nil), batchOf(t)...), Extensions: c.encode(),
		}})[0].(*outcome)
	}
	for i, test := range []struct {
		meant int64
		term  uint64
		want  error
		next  int64
	}{
		{7, 7, nil, 1},
		{7, 9, ErrOtherTerm, 1}, // leadership was lost and regained meanwhile
		{9, 9, nil, 2},
		{0, 9, ErrOtherTerm, 2},
	} {
		out := entry(uint64(i+1), test.term, command{kind: kindTermBatches, arg: [2]int64{test.meant}})
		if !errors.Is(out.err, test.want) || test.want == nil && (out.err != nil || out.batches[0].err != nil) {
			t.Errorf("entry %d: %+v, want %v", i, out, test.want)
		}
		if p.next != test.next {
			t.Errorf("entry %d: %d records, want %d", i, p.next, test.next)
		}
	}
	if !errors.Is(ErrOtherTerm, ErrNotLeader) {
		t.Error("clients look for the leader on another error than ErrNotLeader")
	}
	if err := p.log.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTermsDoNotMix: an entry has batches of one term only, in the order in which
// they came.
func TestTermsDoNotMix(t *testing.T) {
	p := &Partition{ready: make(chan struct{}, 1), accepting: true}
	for _, term := range []uint64{0, 0, 5, 5, 5, 6, 0} {
		p.queue = append(p.queue, pending{batch: []byte("b"), term: term})
	}
	for _, want := range []struct {
		n    int
		term uint64
	}{{2, 0}, {3, 5}, {1, 6}, {1, 0}, {0, 0}} {
		items := p.take(smallSegment)
		if len(items) != want.n || want.n > 0 && items[0].term != want.term {
			t.Fatalf("took %d batches %+v, want %+v", len(items), items, want)
		}
		if want.n > 0 {
			p.landed()
		}
	}
	p.hold(context.Background())()
}

// batchOf is a batch of one record.
func batchOf(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 61, 80)
	be := binary.BigEndian
	b[16] = 2
	be.PutUint32(b[57:], 1)
	for i := 43; i < 57; i++ {
		b[i] = 0xff // no producer
	}
	b = append(b, 14, 0, 0, 0, 1, 2, 'v', 0)
	be.PutUint32(b[8:], uint32(len(b)-12))
	be.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	if _, err := check(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}
