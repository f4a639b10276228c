package seglog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// kib is a batch of about size bytes of 1 KiB records.
func kib(b *testing.B, size int) Batch {
	recs := make([]rec, size>>10)
	for i := range recs {
		recs[i] = rec{ts: 1000, value: make([]byte, 1000)}
		rand.Read(recs[i].value)
	}
	return encode(b, 0, recs)
}

func benchLog(b *testing.B, opts WriterOptions) *Log {
	w := testWriter(b, opts)
	return mustOpen(b, Options{FS: vfs.OS, Dir: b.TempDir() + "/p", Writer: w, OnFatal: func(err error) { b.Error(err) }}, State{})
}

func appendMany(b *testing.B, l *Log, batch Batch, n int) {
	_, next := l.Offsets()
	for range n {
		if err := l.Append(batch, next, 1); err != nil {
			b.Fatal(err)
		}
		next += int64(batch.NumRecords())
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{16 << 10, 350 << 10, 1 << 20} {
		for _, buffered := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dKiB/buffered=%t", size>>10, buffered), func(b *testing.B) {
				l := benchLog(b, WriterOptions{Buffered: buffered})
				batch := kib(b, size)
				appendMany(b, l, batch, (256<<20)/size) // warm memory
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				_, next := l.Offsets()
				for b.Loop() {
					if err := l.Append(batch, next, 1); err != nil {
						b.Fatal(err)
					}
					next += int64(batch.NumRecords())
					if l.Size() > 512<<20 {
						l.SetStart(next - int64(batch.NumRecords()))
						if err := l.RemoveObsolete(l.State()); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

func BenchmarkReadTail(b *testing.B) {
	for _, size := range []int{16 << 10, 350 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			l := benchLog(b, WriterOptions{})
			batch := kib(b, size)
			appendMany(b, l, batch, (100<<20)/size)
			_, next := l.Offsets()
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				d, err := l.Read(next-int64(batch.NumRecords()), 1<<20, true, math.MaxInt64)
				if err != nil || d.Len() != len(batch) {
					b.Fatal(d.Len(), err)
				}
				d.Release()
			}
		})
	}
}

// BenchmarkReadFile reads a log from its beginning to its end, in fetches of
// 1 MiB, with nothing of it in memory of ours; the page cache is warm.
func BenchmarkReadFile(b *testing.B) {
	for _, size := range []int{16 << 10, 350 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			l := benchLog(b, WriterOptions{})
			batch := kib(b, size)
			appendMany(b, l, batch, (512<<20)/size)
			st := l.State()
			if err := l.SyncTo(st); err != nil {
				b.Fatal(err)
			}
			l.Close()
			again := mustOpen(b, Options{FS: vfs.OS, Dir: l.dir, Writer: l.w}, st)
			at := int64(0)
			b.ReportAllocs()
			b.SetBytes(1 << 20)
			for b.Loop() {
				total := 0
				for total < 1<<20 {
					d, err := again.Read(at, 1<<20, true, math.MaxInt64)
					if errors.Is(err, ErrOutOfRange) || err == nil && d.Len() == 0 {
						at = 0
						continue
					}
					if err != nil {
						b.Fatal(err)
					}
					total += d.Len()
					at = d.Next()
					d.Release()
				}
			}
		})
	}
}

func BenchmarkState(b *testing.B) {
	l := benchLog(b, WriterOptions{})
	appendMany(b, l, kib(b, 1<<20), 300)
	b.ReportAllocs()
	for b.Loop() {
		l.State()
	}
}

func BenchmarkValidate(b *testing.B) {
	batch := kib(b, 350<<10)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		if err := batch.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecords(b *testing.B) {
	for codec := range allCodecs {
		b.Run(fmt.Sprint("codec", codec), func(b *testing.B) {
			recs := make([]rec, 100)
			for i := range recs {
				recs[i] = rec{ts: 1000, value: fmt.Appendf(nil, "%01000d", i)}
			}
			batch := encode(b, codec, recs)
			b.ReportAllocs()
			for b.Loop() {
				if err := Records(batch, func(int64, int64, []byte, []byte) bool { return true }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
