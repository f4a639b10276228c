package raftnet

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer prometheus.Registerer
	classes    [Bulk + 1]classMetrics
	bytes      *prometheus.CounterVec
	frames     *prometheus.CounterVec
	conns      *prometheus.GaugeVec
	dials      *prometheus.CounterVec
	dropped    *prometheus.CounterVec
	up         *prometheus.GaugeVec
	rtt        *prometheus.HistogramVec
}

// classMetrics are the metrics of one class of connections, looked up once.
type classMetrics struct {
	sentBytes, receivedBytes   prometheus.Counter
	sentFrames, receivedFrames prometheus.Counter
	connections                prometheus.Gauge
}

// newMetrics makes the metrics and registers them if r is not nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	name := func(s string) prometheus.Opts {
		return prometheus.Opts{Namespace: "raftsman", Subsystem: "raftnet", Name: s}
	}
	counter := func(n, help string, labels ...string) *prometheus.CounterVec {
		o := prometheus.CounterOpts(name(n))
		o.Help = help
		return prometheus.NewCounterVec(o, labels)
	}
	gauge := func(n, help string, labels ...string) *prometheus.GaugeVec {
		o := prometheus.GaugeOpts(name(n))
		o.Help = help
		return prometheus.NewGaugeVec(o, labels)
	}
	m := &metrics{
		registerer: r,
		bytes:      counter("bytes_total", "Bytes of frames, by class of connection and direction.", "class", "direction"),
		frames:     counter("frames_total", "Frames, by class of connection and direction.", "class", "direction"),
		conns:      gauge("connections", "Open connections, dialled and accepted.", "class"),
		dials:      counter("dials_total", "Dials to peers by result: ok, failed or refused.", "result"),
		dropped:    counter("dropped_total", "Requests that were answered with an error instead of being handed in.", "reason"),
		up:         gauge("peer_up", "1 while the peer answers pings.", "node"),
		rtt: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "raftsman", Subsystem: "raftnet", Name: "ping_rtt_seconds", Help: "Time from ping to pong.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 11),
		}, []string{"node"}),
	}
	for c := range m.classes {
		class := Class(c).String()
		m.classes[c] = classMetrics{
			sentBytes: m.bytes.WithLabelValues(class, "sent"), receivedBytes: m.bytes.WithLabelValues(class, "received"),
			sentFrames: m.frames.WithLabelValues(class, "sent"), receivedFrames: m.frames.WithLabelValues(class, "received"),
			connections: m.conns.WithLabelValues(class),
		}
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range m.collectors() {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		m.unregister()
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.bytes, m.frames, m.conns, m.dials, m.dropped, m.up, m.rtt}
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) class(c Class) *classMetrics { return &m.classes[c] }

func (m *metrics) drop(reason string) { m.dropped.WithLabelValues(reason).Inc() }

// peerMetrics are those of one peer.
type peerMetrics struct {
	up  prometheus.Gauge
	rtt prometheus.Observer
}

func (m *metrics) peer(node int32) peerMetrics {
	label := strconv.Itoa(int(node))
	return peerMetrics{up: m.up.WithLabelValues(label), rtt: m.rtt.WithLabelValues(label)}
}

func (m *metrics) forget(node int32) {
	label := strconv.Itoa(int(node))
	m.up.DeleteLabelValues(label)
	m.rtt.DeleteLabelValues(label)
}

func (p peerMetrics) pong(rtt time.Duration) { p.rtt.Observe(rtt.Seconds()) }
