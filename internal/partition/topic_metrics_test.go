package partition

import (
	"fmt"
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// As many topics have series as there are places, for as long as they exist; what is
// counted for the others does not go back.
func TestTopicsHavePlaces(t *testing.T) {
	r := prometheus.NewRegistry()
	m, err := NewMetrics(r, 2)
	if err != nil {
		t.Fatal(err)
	}
	series := func() map[string]float64 {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[string]float64)
		for _, f := range families {
			if f.GetName() == "raftsman_topic_committed_bytes_total" {
				for _, one := range f.Metric {
					found[one.Label[0].GetValue()] = one.Counter.GetValue()
				}
			}
		}
		return found
	}
	for i := range 50 {
		m.topics.of(fmt.Sprint("t", i)).bytes.Add(1)
	}
	if got, want := series(), map[string]float64{"t0": 1, "t1": 1, OtherTopics: 48}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	m.ForgetTopics(func(topic string) bool { return topic != "t0" && topic != "t7" })
	for _, c := range []struct{ topic, want string }{
		{"t1", "t1"}, {"t9", OtherTopics}, {"new", "new"}, {"newer", OtherTopics}, {"t0", OtherTopics}, {"new", "new"},
	} {
		if got := m.TopicLabel(c.topic); got != c.want {
			t.Errorf("%s is counted as %s", c.topic, got)
		}
	}
	if got, want := series(), map[string]float64{"t1": 1, "new": 0, OtherTopics: 48}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	m.Unregister(r)
	none, err := NewMetrics(r, -1)
	if err != nil {
		t.Fatal(err)
	}
	if label := none.TopicLabel("t"); label != "" || len(series()) != 0 {
		t.Errorf("without places it is counted as %q", label)
	}
}
