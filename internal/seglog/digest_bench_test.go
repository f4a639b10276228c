package seglog

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// BenchmarkDigest reads a stored log of batches of one size.
func BenchmarkDigest(b *testing.B) {
	for _, size := range []int{200, 4 << 10, 256 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l := mustOpen(b, Options{FS: vfs.OS, Dir: filepath.Join(b.TempDir(), "log"), Writer: testWriter(b, WriterOptions{})}, State{})
			batch := encode(b, codecNone, []rec{{ts: 1, value: make([]byte, size)}})
			for next := int64(0); l.Size() < 64<<20; next++ {
				if err := l.Append(batch, next, 1); err != nil {
					b.Fatal(err)
				}
			}
			if err := l.SyncTo(l.State()); err != nil {
				b.Fatal(err)
			}
			pin := l.Pin()
			defer pin.Close()
			b.SetBytes(l.Size())
			for b.Loop() {
				r := DigestRequest{To: pin.State().Next, MaxBytes: 4 << 20, MaxBatches: 4096}
				for r.From < r.To {
					d, err := pin.Digest(r)
					if err != nil || len(d.Damage) > 0 {
						b.Fatal(err, d.Damage)
					}
					r.From, r.Cursor = d.Next, d.Cursor
				}
			}
		})
	}
}
