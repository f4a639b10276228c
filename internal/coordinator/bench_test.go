package coordinator

import (
	"fmt"
	"sync/atomic"
	"testing"
)

// BenchmarkCommits is what a commit costs without the log beneath: many clients,
// each waiting for its answer.
func BenchmarkCommits(b *testing.B) {
	l := newMemLog()
	c, _ := start(b, options(l))
	serves(b, c)
	var clients atomic.Int64
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		name := fmt.Sprint("g", clients.Add(1))
		for n := int64(0); pb.Next(); n++ {
			<-ask(c, commit(name, n)).done
		}
	})
	b.ReportMetric(float64(b.N)/float64(max(l.batches(), 1)), "commits/batch")
}

// BenchmarkFetches is what an offset fetch costs without the network: they share
// confirmations of the term.
func BenchmarkFetches(b *testing.B) {
	l := newMemLog()
	c, _ := start(b, options(l))
	serves(b, c)
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			<-ask(c, fetch("g")).done
		}
	})
	b.ReportMetric(float64(b.N)/float64(max(l.verifyCount(), 1)), "fetches/confirmation")
}
