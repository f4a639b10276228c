package testcluster

import (
	"net/http"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/testetcd"
)

// TestEtcdAway: without etcd records are written and read, leaders fail over,
// nodes restart, and health checks stay green; when it is back topics can be
// created again.
func TestEtcdAway(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client(kgo.ProducerLinger(0))
	fill(t, client, "numbers", 0, 10)
	c.Etcd.Stop()
	testetcd.Eventually(t, "the end of all sessions", func() bool {
		for id := int32(1); id <= 3; id++ {
			if c.Member(id).Node.Registered() {
				return false
			}
		}
		return true
	})
	fill(t, client, "numbers", 10, 10)
	old := leaderOf(c, client, "numbers")
	c.Stop(old)
	fill(t, client, "numbers", 20, 10)
	c.Restart(old)
	for id := int32(1); id <= 3; id++ {
		resp, err := http.Get("http://" + c.Member(id).Node.HTTPAddr() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("node %d is not ready without etcd: %s", id, resp.Status)
		}
	}
	fill(t, c.Client(), "numbers", 30, 10)
	consumer := c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"numbers": {0: kgo.NewOffset().AtStart()}}))
	for n := 0; n < 40; {
		n += consumer.PollFetches(t.Context()).NumRecords()
	}
	c.Etcd.Restart(t)
	fill(t, client, "another", 0, 1)
}
