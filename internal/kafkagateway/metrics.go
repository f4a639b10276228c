package kafkagateway

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the server's own, below raftsman_kafka_gateway_ too, don't tell.
type metrics struct {
	refreshes prometheus.Counter
	forwarded *prometheus.CounterVec
	retried   *prometheus.CounterVec
}

const prefix = "raftsman_kafka_gateway_"

func newMetrics(g *Gateway, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		refreshes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "refreshes_total", Help: "Questions to nodes about who leads."}),
		forwarded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "forwarded_total", Help: "Requests, and parts of requests, sent to nodes."}, []string{"api"}),
		retried: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "retried_total", Help: "Parts of requests that another node was asked for, since the first did not lead or was lost."}, []string{"api"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.refreshes, m.forwarded, m.retried,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "nodes", Help: "Nodes that answer."}, func() float64 {
			up, _ := g.view.size()
			return float64(up)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "known_nodes", Help: "Nodes that are known."}, func() float64 {
			_, known := g.view.size()
			return float64(known)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "answer_memory_bytes", Help: "Nodes' answers that clients have not taken yet."}, func() float64 {
			return float64(g.answers.inUse())
		}),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register kafka gateway metrics: %w", err)
		}
	}
	return m, nil
}
