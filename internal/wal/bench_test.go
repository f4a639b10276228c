package wal

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/raftsman/raftsman/internal/vfs"
)

// BenchmarkStoreLogs appends single entries on the real disk: by one group, and
// by 16 at once. Each group releases what it no longer needs, so files are
// recycled as in a node.
func BenchmarkStoreLogs(b *testing.B) {
	for _, groups := range []int{1, 16} {
		for _, size := range []int{1 << 10, 16 << 10, 256 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("groups=%d/size=%dKiB", groups, size>>10), func(b *testing.B) {
				l, err := Open(Options{FS: vfs.OS, Dir: b.TempDir(), Identity: self})
				must(b, err)
				defer l.Close()
				data := make([]byte, size)
				keep := uint64(32<<20/size/groups + 1)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				before := l.Stats().Fsyncs
				b.ResetTimer()
				var wg sync.WaitGroup
				for i := range groups {
					wg.Go(func() {
						g := l.Group(uint64(i))
						log := &raft.Log{Term: 1, Data: data}
						logs := []*raft.Log{log}
						for n := uint64(1); n <= uint64(b.N/groups)+1; n++ {
							log.Index = n
							if err := g.StoreLogs(logs); err != nil {
								b.Error(err)
								return
							}
							if n%keep == 0 {
								if err := g.DeleteRange(0, n-1); err != nil {
									b.Error(err)
								}
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/float64(l.Stats().Fsyncs-before), "entries/fsync")
			})
		}
	}
}

// BenchmarkGetLog reads an entry of 1 KiB from memory and from its file.
func BenchmarkGetLog(b *testing.B) {
	for _, tail := range []int64{1 << 20, -1} {
		b.Run(fmt.Sprintf("tail=%t", tail > 0), func(b *testing.B) {
			l, err := Open(Options{FS: vfs.OS, Dir: b.TempDir(), Identity: self, TailBytes: tail})
			must(b, err)
			defer l.Close()
			g := l.Group(1)
			must(b, g.StoreLogs(entries(1, 100, 1, 1024)))
			b.ReportAllocs()
			var log raft.Log
			for i := 0; b.Loop(); i++ {
				must(b, g.GetLog(uint64(i%100)+1, &log))
			}
		})
	}
}

// BenchmarkOpen recovers a log of 256 MiB in entries of 16 KiB.
func BenchmarkOpen(b *testing.B) {
	opts := Options{FS: vfs.OS, Dir: b.TempDir(), Identity: self}
	l, err := Open(opts)
	must(b, err)
	for i := uint64(0); i < 256; i++ {
		must(b, l.Group(i%16).StoreLogs(entries(i/16*64+1, i/16*64+64, 1, 16<<10)))
	}
	must(b, l.Close())
	b.SetBytes(256 << 20)
	for b.Loop() {
		l, err := Open(opts)
		must(b, err)
		must(b, l.Close())
	}
}
