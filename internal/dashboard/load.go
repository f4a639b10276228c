package dashboard

import (
	"math"
	"time"
)

// window is the time that rates and latencies are taken over.
const window = 5 * time.Second

// Load is a node's present load, as the asked node knows it. Rates are those of
// the last seconds; what is not known is null.
type Load struct {
	At          int64    `json:"at"` // when it was measured: milliseconds since 1970, by the asked node's clock; 0: never
	Error       string   `json:"error,omitempty"`
	Ready       bool     `json:"ready"`
	Records     *float64 `json:"records"` // a second
	BytesIn     *float64 `json:"bytes_in"`
	BytesOut    *float64 `json:"bytes_out"`
	CPU         *float64 `json:"cpu"` // cores
	ProduceP50  *float64 `json:"produce_p50"`
	ProduceP99  *float64 `json:"produce_p99"`
	CommitP99   *float64 `json:"commit_p99"`
	FsyncP99    *float64 `json:"fsync_p99"`
	Memory      float64  `json:"memory"`
	Stored      float64  `json:"stored"`
	Log         float64  `json:"log"`
	DiskFree    float64  `json:"disk_free"`
	DiskMinFree float64  `json:"disk_min_free"`
	Connections float64  `json:"connections"`
	LagSeconds  *float64 `json:"lag_seconds"` // of its replicas, as those say that lead them
	LagEntries  *float64 `json:"lag_entries"`
}

// sample is a node's figures with when they came.
type sample struct {
	at time.Time
	Figures
}

// track is what was heard of one node.
type track struct {
	samples []sample // the oldest first, of the window
	err     string   // why there is no newer one
}

// note adds what was measured, or why nothing was.
func (t *track) note(at time.Time, f Figures, err error) {
	if err != nil {
		t.err = err.Error()
		return
	}
	t.err = ""
	if n := len(t.samples); n > 0 {
		last := t.samples[n-1]
		if f.Records < last.Records || f.Received < last.Received || f.CPU < last.CPU || at.Sub(last.at) > 2*window {
			t.samples = nil // it was started anew, or nobody looked meanwhile
		}
	}
	t.samples = append(t.samples, sample{at, f})
	for len(t.samples) > 2 && at.Sub(t.samples[1].at) >= window {
		t.samples = t.samples[1:]
	}
}

// fresh says whether the last sample is of now.
func (t *track) fresh(now time.Time) bool {
	n := len(t.samples)
	return n > 0 && t.err == "" && now.Sub(t.samples[n-1].at) < 3*pollEvery
}

// change is what happened over the window.
type change struct {
	seconds                float64
	records, in, out, cpu  float64
	produce, commit, fsync Histogram
}

// change returns false before there are two samples.
func (t *track) change() (c change, ok bool) {
	n := len(t.samples)
	if n < 2 {
		return c, false
	}
	first, last := t.samples[0], t.samples[n-1]
	if c.seconds = last.Time - first.Time; c.seconds <= 0 || math.IsNaN(c.seconds) {
		c.seconds = last.at.Sub(first.at).Seconds() // its clock was set
	}
	c.records, c.in, c.out, c.cpu = last.Records-first.Records, last.Received-first.Received, last.Sent-first.Sent, last.CPU-first.CPU
	c.produce, _ = last.Produce.since(first.Produce)
	c.commit, _ = last.Commit.since(first.Commit)
	c.fsync, _ = last.Fsync.since(first.Fsync)
	return c, c.seconds > 0
}

// load is what is shown of a node.
func (t *track) load() Load {
	n := len(t.samples)
	if n == 0 {
		return Load{Error: t.err}
	}
	last := t.samples[n-1]
	l := Load{
		At: last.at.UnixMilli(), Error: t.err, Ready: last.Ready,
		Memory: rounded(last.Memory, 1<<20), Stored: last.Stored, Log: last.Log,
		DiskFree: rounded(last.DiskFree, 1<<20), DiskMinFree: last.DiskMinFree, Connections: last.Connections,
	}
	if c, ok := t.change(); ok {
		l.Records, l.BytesIn, l.BytesOut = rate(c.records, c), rate(c.in, c), rate(c.out, c)
		cpu := math.Round(c.cpu/c.seconds*100) / 100
		l.CPU = &cpu
		l.ProduceP50, l.ProduceP99 = c.produce.quantile(0.5), c.produce.quantile(0.99)
		l.CommitP99, l.FsyncP99 = c.commit.quantile(0.99), c.fsync.quantile(0.99)
	}
	return l
}

func rate(of float64, c change) *float64 {
	r := math.Round(of/c.seconds*10) / 10
	return &r
}

func rounded(n, to float64) float64 { return math.Round(n/to) * to }

// loads are those of all nodes.
func loads(tracks map[int32]*track, now time.Time) map[int32]Load {
	all := make(map[int32]Load, len(tracks))
	for id, t := range tracks {
		all[id] = t.load()
	}
	for _, t := range tracks {
		if !t.fresh(now) {
			continue
		}
		for id, lag := range t.samples[len(t.samples)-1].Lags {
			if l, ok := all[id]; ok {
				if l.LagSeconds == nil || *l.LagSeconds < lag.Seconds {
					l.LagSeconds = &lag.Seconds
				}
				if l.LagEntries == nil || *l.LagEntries < lag.Entries {
					l.LagEntries = &lag.Entries
				}
				all[id] = l
			}
		}
	}
	return all
}

// Point is one of the drawn lines: of all nodes that told, at one time.
type Point struct {
	At         int64    `json:"t"` // milliseconds since 1970, by the asked node's clock
	Told       int      `json:"told"`
	Nodes      int      `json:"nodes"` // that should have
	Records    float64  `json:"records"`
	BytesIn    float64  `json:"in"`
	BytesOut   float64  `json:"out"`
	ProduceP50 *float64 `json:"p50"`
	ProduceP99 *float64 `json:"p99"`
	CommitP99  *float64 `json:"commit"`
	FsyncP99   *float64 `json:"fsync"`
}

// point adds up what the nodes have told just now; ok is false when none has.
func point(tracks map[int32]*track, nodes int, now time.Time) (p Point, ok bool) {
	p = Point{At: now.UnixMilli(), Nodes: nodes}
	var produce, commit, fsync Histogram
	for _, t := range tracks {
		c, measured := t.change()
		if !measured || !t.fresh(now) {
			continue
		}
		p.Told++
		p.Records += *rate(c.records, c)
		p.BytesIn += *rate(c.in, c)
		p.BytesOut += *rate(c.out, c)
		produce.add(c.produce)
		commit.add(c.commit)
		fsync.add(c.fsync)
	}
	p.ProduceP50, p.ProduceP99 = produce.quantile(0.5), produce.quantile(0.99)
	p.CommitP99, p.FsyncP99 = commit.quantile(0.99), fsync.quantile(0.99)
	return p, p.Told > 0
}
