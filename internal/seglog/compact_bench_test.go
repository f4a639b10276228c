package seglog

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/raftsman/raftsman/internal/vfs"
)

// BenchmarkCompact compacts 64 MiB of updates of 10,000 keys, in batches of some
// 16 KiB. Its bytes per second are those of the segments that are compacted.
func BenchmarkCompact(b *testing.B) {
	for _, codec := range []int{codecNone, codecSnappy, codecZstd} {
		for _, memory := range []int64{128 << 20, 100 << 10} {
			b.Run(fmt.Sprintf("%s/memory=%dKiB", Codecs[codec], memory>>10), func(b *testing.B) {
				r := rand.New(rand.NewPCG(1, 1))
				w := testWriter(b, WriterOptions{})
				l := mustOpen(b, Options{FS: vfs.OS, Dir: b.TempDir() + "/p", Writer: w, SegmentBytes: 8 << 20}, State{})
				for next := int64(0); l.Size() < 64<<20; {
					recs := make([]rec, 100)
					for i := range recs {
						value := make([]byte, 150)
						for k := range value {
							value[k] = byte('a' + r.IntN(16))
						}
						recs[i] = rec{ts: 1000, key: fmt.Appendf(nil, "key-%d", r.IntN(10_000)), value: value}
					}
					if err := l.Append(encode(b, codec, recs), next, 1); err != nil {
						b.Fatal(err)
					}
					next += 100
				}
				roll(l)
				st := l.State()
				if err := l.SyncTo(st); err != nil {
					b.Fatal(err)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				opts := Options{FS: vfs.OS, Dir: l.dir, Writer: w}
				b.SetBytes(64 << 20)
				b.ReportAllocs()
				for b.Loop() {
					l := mustOpen(b, opts, st)
					compactNow(b, l, CompactRequest{Seq: 1, UpTo: st.Next, SegmentBytes: 8 << 20, Now: 1, Horizon: 2, Memory: memory})
					if err := l.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
