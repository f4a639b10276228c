package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// benchResult is what a benchmark shows.
type benchResult struct {
	Benchmark  string        `json:"benchmark"`
	Topic      string        `json:"topic"`
	Partitions int32         `json:"partitions"`
	Clients    int           `json:"clients"`
	Size       int           `json:"size,omitempty"` // of a value that was written
	Acks       string        `json:"acks,omitempty"`
	Seconds    float64       `json:"seconds"`
	Records    int64         `json:"records"`
	Bytes      int64         `json:"bytes"`
	PerSecond  float64       `json:"records_per_second"`
	MBPerS     float64       `json:"mb_per_second"` // of 1,000,000 bytes
	Failed     int64         `json:"failed"`
	FirstError string        `json:"first_error,omitempty"`
	Latency    latencyResult `json:"latency"`
	Failover   *gapResult    `json:"failover,omitempty"`
}

// latencyResult is how long things took, in milliseconds.
type latencyResult struct {
	Of        string   `json:"of"` // what was measured
	Count     int64    `json:"count"`
	Mean      float64  `json:"mean_ms"`
	P50       float64  `json:"p50_ms"`
	P90       float64  `json:"p90_ms"`
	P99       float64  `json:"p99_ms"`
	P999      float64  `json:"p999_ms"`
	Max       float64  `json:"max_ms"`
	Histogram []bucket `json:"histogram"`
}

// bucket counts what took longer than the bucket before says, and up to this.
type bucket struct {
	UpTo  float64 `json:"up_to_ms"`
	Count int64   `json:"count"`
}

// result sums up what a meter has counted.
func (m *meter) result(what, of string, t benchTopic, clients int) *benchResult {
	m.mu.Lock()
	defer m.mu.Unlock()
	seconds := time.Since(m.began).Seconds()
	r := &benchResult{
		Benchmark: what, Topic: t.name, Partitions: t.partitions, Clients: clients, Seconds: seconds,
		Records: m.records, Bytes: m.bytes, PerSecond: float64(m.records) / seconds, MBPerS: float64(m.bytes) / 1e6 / seconds, Failed: m.failed,
		Latency: latencies(of, m.latency),
	}
	if m.first != nil {
		r.FirstError = m.first.Error()
	}
	return r
}

func latencies(of string, h *hdrhistogram.Histogram) latencyResult {
	ms := func(v int64) float64 { return float64(v) * float64(latencyUnit) / float64(time.Millisecond) }
	r := latencyResult{Of: of, Count: h.TotalCount(), Histogram: []bucket{}}
	if r.Count == 0 {
		return r
	}
	r.Mean = h.Mean() * float64(latencyUnit) / float64(time.Millisecond)
	r.P50, r.P90, r.P99, r.P999, r.Max = ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(90)), ms(h.ValueAtQuantile(99)), ms(h.ValueAtQuantile(99.9)), ms(h.Max())
	limit := nextLimit(0)
	var count int64
	flush := func() {
		if count > 0 || len(r.Histogram) > 0 {
			r.Histogram = append(r.Histogram, bucket{ms(limit), count})
		}
		count, limit = 0, nextLimit(limit)
	}
	for _, bar := range h.Distribution() {
		if bar.Count == 0 {
			continue
		}
		for bar.From > limit {
			flush()
		}
		count += bar.Count
	}
	flush()
	return r
}

// nextLimit follows 1, 2, 5, 10, 20, 50 and so on, in microseconds from 50.
func nextLimit(after int64) int64 {
	for base := int64(10); ; base *= 10 {
		for _, n := range []int64{5, 10, 20} {
			if base*n > after {
				return base * n
			}
		}
	}
}

// milliseconds shows microseconds with three digits.
func milliseconds(us int64) string { return msText(float64(us) / 1000) }

func msText(ms float64) string {
	switch {
	case ms >= 10_000:
		return fmt.Sprintf("%.1fs", ms/1000)
	case ms >= 100:
		return fmt.Sprintf("%.0fms", ms)
	case ms >= 10:
		return fmt.Sprintf("%.1fms", ms)
	}
	return fmt.Sprintf("%.2fms", ms)
}

const histogramWidth = 40

func (r *benchResult) table(w io.Writer) {
	cells(w, "benchmark", r.Benchmark)
	cells(w, "topic", fmt.Sprintf("%s, %s", r.Topic, plural(r.Partitions, "partition", "partitions")))
	cells(w, "clients", r.Clients)
	if r.Size > 0 {
		cells(w, "record", fmt.Sprintf("%s, acks %s", plural(r.Size, "byte", "bytes"), r.Acks))
	}
	cells(w, "time", fmt.Sprintf("%.1fs", r.Seconds))
	cells(w, "records", fmt.Sprintf("%d, %.0f a second", r.Records, r.PerSecond))
	cells(w, "data", fmt.Sprintf("%.1f MB, %.2f MB/s", float64(r.Bytes)/1e6, r.MBPerS))
	if r.Failed > 0 {
		cells(w, "failed", bad(fmt.Sprint(r.Failed)))
	}
	r.Latency.table(w)
	if r.Failover != nil {
		r.Failover.table(w)
	}
}

func (l *latencyResult) table(w io.Writer) {
	fmt.Fprintf(w, "\nlatency of %s", l.Of)
	if l.Count == 0 {
		fmt.Fprintln(w, ": none")
		return
	}
	fmt.Fprintln(w)
	heading(w, "MEAN", "P50", "P90", "P99", "P99.9", "MAX")
	cells(w, msText(l.Mean), msText(l.P50), msText(l.P90), msText(l.P99), msText(l.P999), msText(l.Max))
	fmt.Fprintln(w)
	var most int64
	for _, b := range l.Histogram {
		most = max(most, b.Count)
	}
	heading(w, "UP TO", "COUNT", "SHARE", "")
	for _, b := range l.Histogram {
		bar := int(float64(b.Count)/float64(most)*histogramWidth + 0.5)
		if b.Count > 0 {
			bar = max(bar, 1)
		}
		cells(w, msText(b.UpTo), b.Count, fmt.Sprintf("%.2f%%", 100*float64(b.Count)/float64(l.Count)), strings.Repeat("#", bar))
	}
}
