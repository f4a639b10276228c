package raftnet

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

func BenchmarkPipeline(b *testing.B) {
	for _, bench := range []struct{ entries, size int }{{1, 1 << 20}, {1, 1 << 10}, {16, 1 << 10}, {16, 64 << 10}} {
		b.Run(fmt.Sprintf("%dx%d", bench.entries, bench.size), func(b *testing.B) {
			_, _, _, ta, tb := pair(b, nil)
			respond(b, tb, nil)
			p := openPipeline(b, ta, replica(1, 2))
			req := entries(1, bench.entries, bench.size)
			b.SetBytes(int64(bench.entries * bench.size))
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := p.AppendEntries(req, new(raft.AppendEntriesResponse)); err != nil {
						b.Error(err)
						return
					}
				}
			}()
			for range b.N {
				if f := <-p.Consumer(); !f.Response().Success {
					b.Fatal(f.Error())
				}
			}
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, bench := range []struct {
		name string
		req  *raft.AppendEntriesRequest
	}{{"heartbeat", &raft.AppendEntriesRequest{Term: 7}}, {"append1KiB", entries(1, 1, 1<<10)}} {
		b.Run(bench.name, func(b *testing.B) {
			_, _, _, ta, tb := pair(b, nil)
			respond(b, tb, nil)
			id, addr := serverOf(replica(1, 2))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if err := ta.AppendEntries(id, addr, bench.req, new(raft.AppendEntriesResponse)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
