package seglog

import (
	"bytes"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// TestFullDisk: segments that find no space wait, SyncTo says so, nobody is told
// of a failure, and all is there once there is space.
func TestFullDisk(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpCreate} {
		t.Run(string(op), func(t *testing.T) {
			mem := vfs.NewMem()
			var full atomic.Bool
			var refused atomic.Int32
			fsys := vfs.NewFail(mem, func(o vfs.Op, _ string) error {
				if o == op && full.Load() {
					refused.Add(1)
					return syscall.ENOSPC
				}
				return nil
			})
			l := mustOpen(t, Options{FS: fsys, Dir: "d", Writer: tinyWriter(t), SegmentBytes: 10 << 10, OnFatal: func(err error) {
				t.Errorf("told of a failure: %v", err)
			}}, State{})
			full.Store(true)
			for i := range int64(30) {
				if err := l.Append(encode(t, 0, []rec{{value: make([]byte, 1000)}}), i, 0); err != nil {
					t.Fatal(err)
				}
			}
			st := l.State()
			if err := l.SyncTo(st); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("sync on a full disk: %v", err)
			}
			eventually(t, "the writer to try by itself", func() bool { return refused.Load() > 2 })
			full.Store(false)
			if err := l.SyncTo(st); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			mustOpen(t, Options{FS: mem, Dir: "d", Writer: tinyWriter(t), SegmentBytes: 10 << 10}, st) // checks the active one
			for _, info := range st.Segments {
				f, err := mem.Open("d/" + logName(info.Base))
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := scanFile(f, f.Name(), info, 4096); err != nil {
					t.Error(err)
				}
				f.Close()
			}
		})
	}
}

// batchAround returns where the batch around a byte begins and ends.
func batchAround(t *testing.T, p []byte, at int) (begin, end int) {
	t.Helper()
	for rest := p; len(rest) > 0; {
		b, left, err := NextBatch(rest)
		if err != nil {
			t.Fatal(err)
		}
		if begin, end = end, end+len(b); at < end {
			return begin, end
		}
		rest = left
	}
	t.Fatalf("no batch at byte %d", at)
	return 0, 0
}

// TestReadOfDamagedRecord flips each byte of a sealed segment in turn: reads from
// the file give the batches before it as they were, and then a DamageError with
// the batch's place.
func TestReadOfDamagedRecord(t *testing.T) {
	mem := vfs.NewMem()
	opts := Options{FS: mem, Dir: "d", Writer: tinyWriter(t), SegmentBytes: 2 << 10}
	l := mustOpen(t, opts, State{})
	for i := range int64(6) {
		if err := l.Append(encode(t, 0, []rec{{value: bytes.Repeat([]byte{byte(i)}, 500)}}), i, 1); err != nil {
			t.Fatal(err)
		}
	}
	st := l.State()
	if err := l.SyncTo(st); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := "d/" + logName(0)
	whole := readFileOf(t, mem, name)
	f, err := mem.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := range whole {
		if begin, end := batchAround(t, whole, at); end == len(whole) && at-begin >= posEpoch && at-begin < posMagic {
			continue // the last batch's epoch: neither its CRC nor a batch behind it tells
		}
		if _, err := f.WriteAt([]byte{whole[at] ^ 0x10}, int64(at)); err != nil {
			t.Fatal(err)
		}
		l := mustOpen(t, opts, st)
		told := 0
		l.onDamage = func(int64, *DamageError) { told++ }
		begin, end := batchAround(t, whole, at)
		var got []byte
		d, err := l.Read(0, 1<<20, true, st.Next)
		for err == nil && d.Len() > 0 {
			if told == 0 {
				t.Fatalf("byte %d flipped: not told by the read that met it", at)
			}
			got = append(got, flat(d)...)
			d.Release()
			d, err = l.Read(d.Next(), 1<<20, true, st.Next)
		}
		if err == nil {
			t.Fatalf("byte %d flipped: not noticed, other bytes read: %v", at, !bytes.Equal(got, whole))
		}
		// The batch before may be held back too: its length shows behind it only.
		previous := 0
		if begin > 0 {
			previous, _ = batchAround(t, whole, begin-1)
		}
		if !bytes.HasPrefix(whole, got) || len(got) != begin && len(got) != previous {
			t.Fatalf("byte %d of the batch at %d flipped: %d bytes before it were read", at, begin, len(got))
		}
		if at-begin >= posBaseTime && len(got) != begin {
			t.Fatalf("byte %d of the batch at %d flipped: only %d bytes before it were read", at, begin, len(got))
		}
		// A wrong length, offset or epoch shows at the batch behind.
		if at-begin < posMagic {
			begin = end
		}
		if dmg := wantDamage(t, err); dmg.Offset > int64(begin) {
			t.Fatalf("byte %d of the batch at %d flipped: %v", at, begin, dmg)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(whole[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
}
