package dashboard

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func near(got *float64, want float64) bool {
	return got != nil && math.Abs(*got-want) <= 1e-9+want/1e6
}

func TestQuantile(t *testing.T) {
	h := Histogram{Count: 100, Bounds: []float64{1, 2, 4}, UpTo: []float64{50, 90, 98}}
	for q, want := range map[float64]float64{0.25: 0.5, 0.5: 1, 0.7: 1.5, 0.9: 2, 0.94: 3, 0.99: 4} {
		if got := h.quantile(q); !near(got, want) {
			t.Errorf("%v: got %v, want %v", q, *got, want)
		}
	}
	if (Histogram{}).quantile(0.5) != nil || (Histogram{Count: 3}).quantile(0.5) != nil {
		t.Error("a quantile of nothing")
	}
}

func TestHistogramSince(t *testing.T) {
	old := Histogram{Count: 3, Bounds: []float64{1, 2}, UpTo: []float64{1, 3}}
	now := Histogram{Count: 5, Bounds: []float64{1, 2}, UpTo: []float64{2, 5}}
	if d, ok := now.since(old); !ok || d.Count != 2 || d.UpTo[0] != 1 || d.UpTo[1] != 2 {
		t.Errorf("got %+v", d)
	}
	if d, ok := now.since(Histogram{}); !ok || d.Count != 5 {
		t.Errorf("since nothing: %+v", d)
	}
	if _, ok := old.since(now); ok {
		t.Error("one that went back")
	}
	if _, ok := (Histogram{Count: 9, Bounds: []float64{1}, UpTo: []float64{9}}).since(old); ok {
		t.Error("one with other bounds")
	}
	if _, ok := (Histogram{Count: 9, Bounds: []float64{1}}).since(Histogram{}); ok {
		t.Error("one that is not whole") // another node says what it likes
	}
}

func figuresAt(s float64, records float64) Figures {
	return Figures{Time: s, Records: records, Received: 10 * records, CPU: s / 2, Commit: Histogram{Count: records, Bounds: []float64{0.01, 0.1}, UpTo: []float64{records, records}}}
}

func TestRatesAreOfTheWindow(t *testing.T) {
	var tr track
	at := time.Unix(1000, 0)
	for i := range 20 {
		tr.note(at.Add(time.Duration(i)*time.Second), figuresAt(float64(i), float64(100*i)), nil)
		if l := tr.load(); i == 0 && l.Records != nil {
			t.Error("a rate of one sample")
		} else if i > 0 && (!near(l.Records, 100) || !near(l.BytesIn, 1000) || !near(l.CPU, 0.5)) {
			t.Errorf("after %d: %+v", i, l)
		}
	}
	if n := len(tr.samples); n != 6 {
		t.Errorf("%d samples are kept", n)
	}
	// A node that does not answer keeps its last figures, with their time and the reason.
	tr.note(at.Add(30*time.Second), Figures{}, errors.New("no answer"))
	if l := tr.load(); l.Error != "no answer" || l.At != at.Add(19*time.Second).UnixMilli() || !near(l.Records, 100) || tr.fresh(at.Add(20*time.Second)) {
		t.Errorf("got %+v", l)
	}
	// One that was started anew has no rate yet: its counters began at 0.
	tr.note(at.Add(31*time.Second), figuresAt(0, 5), nil)
	if l := tr.load(); l.Records != nil || l.Error != "" {
		t.Errorf("got %+v", l)
	}
}

func TestPointCountsWhoTold(t *testing.T) {
	now := time.Unix(1000, 0)
	tracks := map[int32]*track{1: {}, 2: {}, 3: {}}
	if _, ok := point(tracks, 3, now); ok {
		t.Error("a point of nothing")
	}
	for _, id := range []int32{1, 2} {
		for i := range 3 {
			tracks[id].note(now.Add(time.Duration(i-2)*time.Second), figuresAt(float64(i), float64(50*i)), nil)
		}
	}
	tracks[2].note(now, Figures{}, errors.New("no answer"))
	p, ok := point(tracks, 3, now)
	if !ok || p.Told != 1 || p.Nodes != 3 || p.Records != 50 || !near(p.CommitP99, 0.0099) || p.ProduceP99 != nil {
		t.Errorf("got %+v", p)
	}
}

func TestLagIsTheWorstThatAFreshLeaderTells(t *testing.T) {
	now := time.Unix(1000, 0)
	tracks := map[int32]*track{1: {}, 2: {}, 3: {}}
	tracks[1].note(now, Figures{Lags: map[int32]Lag{3: {0.5, 7}, 9: {1, 1}}}, nil)
	tracks[2].note(now, Figures{Lags: map[int32]Lag{3: {2, 4}, 1: {0.1, 0}}}, nil)
	tracks[3].note(now.Add(-time.Minute), Figures{Lags: map[int32]Lag{1: {99, 99}}}, nil)
	all := loads(tracks, now)
	if l := all[3]; !near(l.LagSeconds, 2) || !near(l.LagEntries, 7) {
		t.Errorf("node 3: %v %v", l.LagSeconds, l.LagEntries)
	}
	if l := all[1]; !near(l.LagSeconds, 0.1) {
		t.Errorf("node 1: %v", *l.LagSeconds)
	}
	if all[2].LagSeconds != nil || len(all) != 3 {
		t.Errorf("got %+v", all)
	}
}

func TestGather(t *testing.T) {
	r := prometheus.NewRegistry()
	gauge := func(name string, labels prometheus.Labels, v float64) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, ConstLabels: labels})
		g.Set(v)
		r.MustRegister(g)
	}
	gauge("raftsman_ready", nil, 1)
	gauge("raftsman_kafka_connections", prometheus.Labels{"listener": "a"}, 2)
	gauge("raftsman_kafka_connections", prometheus.Labels{"listener": "b"}, 3)
	gauge("raftsman_follower_lag_seconds", prometheus.Labels{"node": "2"}, 1.5)
	gauge("raftsman_follower_lag_entries", prometheus.Labels{"node": "2"}, 9)
	records := prometheus.NewCounter(prometheus.CounterOpts{Name: "raftsman_committed_records_total"})
	records.Add(12)
	requests := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "raftsman_kafka_request_duration_seconds", Buckets: []float64{1, 2}}, []string{"api"})
	requests.WithLabelValues("Produce").Observe(1.5)
	requests.WithLabelValues("Fetch").Observe(0.5)
	requests.WithLabelValues("Fetch").Observe(0.5)
	r.MustRegister(records, requests)
	f, err := gather(r)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Ready || f.Connections != 5 || f.Records != 12 || f.Lags[2] != (Lag{1.5, 9}) || f.Produce.Count != 1 || f.Produce.UpTo[0] != 0 || f.Produce.UpTo[1] != 1 {
		t.Errorf("got %+v", f)
	}
}
