package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestLatencies compares with the sorted values themselves.
func TestLatencies(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	m := newMeter()
	var all []float64
	for range 20_000 {
		d := time.Duration(rnd.ExpFloat64() * float64(3*time.Millisecond)).Truncate(time.Microsecond)
		d = max(d, time.Microsecond)
		m.acked(100, d, nil)
		all = append(all, float64(d)/float64(time.Millisecond))
	}
	m.acked(100, time.Hour*2, nil) // more than is told apart
	m.acked(100, 0, errors.New("no"))
	all = append(all, float64(time.Hour/time.Millisecond))
	slices.Sort(all)
	r := m.result("produce", "x", benchTopic{"t", 3, true}, 1)
	if r.Records != 20_001 || r.Bytes != 2_000_100 || r.Failed != 1 || r.FirstError != "no" || r.Latency.Count != r.Records {
		t.Errorf("got %+v", r)
	}
	for name, q := range map[string]struct{ got, at float64 }{
		"p50": {r.Latency.P50, 0.5}, "p90": {r.Latency.P90, 0.9}, "p99": {r.Latency.P99, 0.99}, "p99.9": {r.Latency.P999, 0.999}, "max": {r.Latency.Max, 1},
	} {
		want := all[min(int(q.at*float64(len(all))), len(all)-1)]
		if q.got < want*0.99 || q.got > want*1.01 {
			t.Errorf("%s: got %g, want %g", name, q.got, want)
		}
	}
	var sum int64
	last := 0.0
	for _, b := range r.Latency.Histogram {
		if b.UpTo <= last {
			t.Errorf("%g follows %g", b.UpTo, last)
		}
		var want int64
		for _, v := range all {
			if v > last && v <= b.UpTo {
				want++
			}
		}
		if slack := want/50 + 20; b.Count < want-slack || b.Count > want+slack { // a value at a limit is within its 0.1 %
			t.Errorf("up to %g ms: got %d, want %d", b.UpTo, b.Count, want)
		}
		sum, last = sum+b.Count, b.UpTo
	}
	if sum != r.Latency.Count {
		t.Errorf("the histogram counts %d of %d", sum, r.Latency.Count)
	}
}

func TestBenchTable(t *testing.T) {
	m := newMeter()
	for i := range 100 {
		m.took(time.Duration(i+1) * 100 * time.Microsecond)
	}
	m.add(100, 5000)
	r := m.result("consume", "a fetch", benchTopic{"t", 1, false}, 2)
	r.Seconds, r.PerSecond, r.MBPerS = 2, 50, 0.0025
	var out bytes.Buffer
	if err := renderTo(&out, r.table); err != nil {
		t.Fatal(err)
	}
	const want = `benchmark  consume
topic      t, 1 partition
clients    2
time       2.0s
records    100, 50 a second
data       0.0 MB, 0.00 MB/s

latency of a fetch
MEAN    P50     P90     P99     P99.9   MAX
5.05ms  5.00ms  9.01ms  9.90ms  10.0ms  10.0ms

UP TO   COUNT  SHARE
0.10ms  1      1.00%   #
0.20ms  1      1.00%   #
0.50ms  3      3.00%   ##
1.00ms  5      5.00%   ####
2.00ms  10     10.00%  ########
5.00ms  30     30.00%  ########################
10.0ms  50     50.00%  ########################################
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
	out.Reset()
	if err := renderTo(&out, newMeter().result("consume", "a fetch", benchTopic{}, 1).table); err != nil || !strings.Contains(out.String(), "a fetch: none") {
		t.Errorf("%v; got\n%s", err, out.String())
	}
}

// TestGaps: what is shorter than the threshold is none, and one that has not ended
// counts.
func TestGaps(t *testing.T) {
	client, err := kgo.NewClient(kgo.SeedBrokers(deadAddr(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	w := &gapWatch{client: client, topic: "t", threshold: time.Minute, m: newMeter(), last: make([]time.Time, 3)}
	now := time.Now()
	w.last[0], w.last[1], w.last[2] = now.Add(-2*time.Minute), now, now.Add(-3*time.Minute)
	w.acked(&kgo.Record{Partition: 0, Value: []byte("v")}, now, nil)
	w.acked(&kgo.Record{Partition: 1, Value: []byte("v")}, now, nil)
	w.acked(&kgo.Record{Partition: 2, Value: []byte("v")}, now, errors.New("no"))
	if text := w.line(); !strings.Contains(text, "1 gap,") || !strings.Contains(text, "silent now: 2") {
		t.Errorf("got %q", text)
	}
	w.stillSilent()
	r := w.result()
	if r.Count != 2 || len(r.Gaps) != 2 || r.Gaps[0].Partition != 0 || r.Gaps[1].Partition != 2 || r.Gaps[1].Leader != -1 {
		t.Fatalf("got %+v", r)
	}
	if r.Gaps[0].MS < 120_000 || r.Longest < 180_000 {
		t.Errorf("got %+v", r)
	}
}
