package partition

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// OtherTopics is the label of the topics that have none of their own. No topic can be
// called so.
const OtherTopics = "(others)"

// topicMetrics count by topic, for as many topics as there are places. The first to
// come get them, and keep them until they are forgotten: counters must not go back.
type topicMetrics struct {
	records, bytes, read *prometheus.CounterVec
	places               int

	mu     sync.Mutex
	topics map[string]*topicCounters // all that were asked for
	taken  int                       // places
}

// topicCounters are those of one topic, or of the others together.
type topicCounters struct {
	label                string
	records, bytes, read prometheus.Counter
}

func newTopicMetrics(places int) *topicMetrics {
	vec := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "raftsman_topic_" + name, Help: help}, []string{"topic"})
	}
	return &topicMetrics{
		records: vec("committed_records_total", "Of raftsman_committed_records_total, those of one topic."),
		bytes:   vec("committed_bytes_total", "Of raftsman_committed_bytes_total, those of one topic."),
		read:    vec("read_bytes_total", "Bytes of record batches that were read here for clients, by topic."),
		places:  places, topics: make(map[string]*topicCounters),
	}
}

func (m *topicMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.records, m.bytes, m.read}
}

// of returns a topic's counters; nil when none are kept.
func (m *topicMetrics) of(topic string) *topicCounters {
	if m.places <= 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.topics[topic]
	if c == nil {
		label := OtherTopics
		if m.taken < m.places {
			m.taken++
			label = topic
		}
		c = &topicCounters{label, m.records.WithLabelValues(label), m.bytes.WithLabelValues(label), m.read.WithLabelValues(label)}
		m.topics[topic] = c
	}
	return c
}

// ForgetTopics takes the places of topics that do not exist any more.
func (m *Metrics) ForgetTopics(exists func(topic string) bool) {
	t := m.topics
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, c := range t.topics {
		if exists(topic) {
			continue
		}
		delete(t.topics, topic)
		if c.label == topic {
			t.taken--
			t.records.DeleteLabelValues(topic)
			t.bytes.DeleteLabelValues(topic)
			t.read.DeleteLabelValues(topic)
		}
	}
}

// TopicLabel is under which a topic is counted; "" when none are.
func (m *Metrics) TopicLabel(topic string) string {
	if c := m.topics.of(topic); c != nil {
		return c.label
	}
	return ""
}

// CountRead counts bytes that were read for a client.
func (p *Partition) CountRead(bytes int) {
	if p.topic != nil {
		p.topic.read.Add(float64(bytes))
	}
}
