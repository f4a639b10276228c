package testcluster

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// probe asks a node's HTTP port.
func (c *Cluster) probe(t *testing.T, id int32, path string) (status int, says string) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + c.Member(id).Node.HTTPAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// metric is a series' value as /metrics has it, -1 if there is none.
func (c *Cluster) metric(t *testing.T, id int32, series string) float64 {
	t.Helper()
	_, page := c.probe(t, id, "/metrics")
	for line := range strings.Lines(page) {
		var value float64
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return value
		}
	}
	return -1
}

// TestProbesAndGauges: one node is the winner and says so; a node that the leaders
// can't reach knows no lag, and they see how far it is behind; what the gauges add up
// to is what was made.
func TestProbesAndGauges(t *testing.T) {
	c := Start(t, 3, nil)
	writer := c.Client(kgo.DefaultProduceTopic("t"))
	write := func() {
		t.Helper()
		if err := writer.ProduceSync(t.Context(), kgo.StringRecord("x")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		write()
	}
	leader := c.inSync(t, "t", 3)
	sum := func(series string) (all float64) {
		for id := int32(1); id <= 3; id++ {
			all += c.metric(t, id, series)
		}
		return all
	}
	testetcd.Eventually(t, "the gauges to show three nodes and a partition", func() bool {
		return sum("raftsman_winner") == 1 && sum("raftsman_winner_known") == 3 && sum("raftsman_etcd_session") == 3 &&
			sum("raftsman_partitions") == 3 && sum("raftsman_partitions_led") == 1 && sum("raftsman_replicas") == 3 &&
			sum("raftsman_partitions_offline") == 0 && sum("raftsman_partitions_under_replicated") == 0 &&
			sum(`raftsman_nodes{state="up"}`) == 9 && sum("raftsman_ready") == 3
	})
	if n := c.metric(t, leader, "raftsman_committed_records_total"); n != 10 {
		t.Errorf("%v records were committed", n)
	}
	if fs := c.Client(kgo.ConsumeTopics("t")).PollFetches(t.Context()); fs.Err() != nil {
		t.Fatal(fs.Err())
	}
	if n := c.metric(t, leader, `raftsman_topic_committed_records_total{topic="t"}`); n != 10 {
		t.Errorf("%v records of the topic", n)
	}
	for _, series := range []string{"topic_committed_bytes_total", "topic_read_bytes_total", "topic_segment_bytes"} {
		if n := c.metric(t, leader, "raftsman_"+series+`{topic="t"}`); n <= 0 {
			t.Errorf("%s: %v", series, n)
		}
	}
	winners := 0
	for id := int32(1); id <= 3; id++ {
		status, says := c.probe(t, id, "/leader")
		if status == http.StatusOK {
			winners++
		} else if !strings.Contains(says, "is the winner") {
			t.Errorf("node %d: %d %q", id, status, says)
		}
	}
	if winners != 1 {
		t.Errorf("%d nodes say that they are the winner", winners)
	}
	for id := int32(1); id <= 3; id++ {
		testetcd.Eventually(t, fmt.Sprint("node ", id, " to be a replica without lag"), func() bool {
			status, says := c.probe(t, id, "/replica?lag=1s")
			return status == http.StatusOK && strings.HasPrefix(says, "1 replicas")
		})
	}

	follower, other := leader%3+1, (leader+1)%3+1
	c.Network.Cut(leader, follower)
	c.Network.Cut(other, follower)
	testetcd.Eventually(t, "a node that is cut off to know no lag", func() bool {
		status, says := c.probe(t, follower, "/replica?lag=10s")
		return status == http.StatusServiceUnavailable && strings.Contains(says, "lag is not known")
	})
	write()
	testetcd.Eventually(t, "the leader to see it behind", func() bool {
		return c.metric(t, leader, fmt.Sprintf(`raftsman_follower_lag_seconds{node="%d"}`, follower)) > 1 &&
			c.metric(t, leader, fmt.Sprintf(`raftsman_follower_lag_entries{node="%d"}`, follower)) >= 1 &&
			c.metric(t, leader, "raftsman_partitions_under_replicated") == 1
	})
	c.Network.Heal(leader, follower)
	c.Network.Heal(other, follower)
	testetcd.Eventually(t, "the lag to be gone", func() bool {
		status, _ := c.probe(t, follower, "/replica?lag=1s")
		return status == http.StatusOK && c.metric(t, leader, "raftsman_partitions_under_replicated") == 0
	})

	c.Stop(leader)
	testetcd.Eventually(t, "the others to lead, and to have measured that", func() bool {
		measured := c.metric(t, follower, "raftsman_leaderships_gained_total") + c.metric(t, other, "raftsman_leaderships_gained_total")
		return measured >= 1 && c.metric(t, follower, "raftsman_partitions_offline") == 0
	})
}
