package testcluster

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/raftsman/raftsman/internal/dashboard"
	"github.com/raftsman/raftsman/internal/health"
	"github.com/raftsman/raftsman/internal/testetcd"
)

// board asks a node's dashboard, and returns the status.
func board(t *testing.T, m *Member, path string, into any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.Node.HTTPAddr()+"/api/dashboard/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, into); err != nil {
			t.Fatalf("%s: %v in %s", path, err, body)
		}
	}
	return resp.StatusCode
}

// TestDashboard: what the dashboard's paths answer is what Kafka clients see, from
// any node, also when another one is gone.
func TestDashboard(t *testing.T) {
	c := Start(t, 3, nil)
	client := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	admin := kadm.NewClient(client)
	c.create(t, admin, "orders", 3)
	for i := range 130 {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Partition: int32(i % 2), Key: []byte("k"), Value: fmt.Append(nil, "value ", i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	offsets := make(kadm.Offsets)
	offsets.Add(kadm.Offset{Topic: "orders", Partition: 1, At: 15, LeaderEpoch: -1})
	if _, err := admin.CommitOffsets(t.Context(), "billing & sons", offsets); err != nil {
		t.Fatal(err)
	}

	for id := int32(1); id <= 3; id++ {
		m := c.Member(id)
		var o dashboard.Offsets
		if code := board(t, m, "offsets?topic=orders", &o); code != 200 || len(o.End) != 3 || *o.End[0] != 65 || *o.End[1] != 65 || *o.End[2] != 0 || *o.Start[0] != 0 {
			t.Errorf("node %d: offsets %d %+v", id, code, o)
		}
		var all dashboard.Groups
		if code := board(t, m, "groups", &all); code != 200 || len(all.Groups) != 1 || *all.Groups[0].Lag != 50 || all.Groups[0].State != "Empty" || *all.Groups[0].Members != 0 {
			t.Errorf("node %d: groups %d %+v", id, code, all)
		}
		var one dashboard.GroupDetails
		if code := board(t, m, "group?"+url.Values{"name": {"billing & sons"}}.Encode(), &one); code != 200 || len(one.Offsets) != 1 || *one.Offsets[0].Committed != 15 || *one.Offsets[0].Lag != 50 {
			t.Errorf("node %d: group %d %+v", id, code, one)
		}
		var tail dashboard.Tail
		if code := board(t, m, "records?topic=orders&partition=1&count=20", &tail); code != 200 || tail.Cut != "" || len(tail.Records) != 20 ||
			tail.Records[0].Offset != 64 || tail.Records[0].Value.Text != "value 129" || tail.Records[19].Offset != 45 {
			t.Errorf("node %d: records %d %+v", id, code, tail)
		}
		if code := board(t, m, "records?topic=orders", &tail); code != 200 || tail.Cut != "" || len(tail.Records) != 50 {
			t.Errorf("node %d: records of all partitions %d, %d of them, %s", id, code, len(tail.Records), tail.Cut)
		}
		if code := board(t, m, "records?topic=orders&partition=2", &tail); code != 200 || len(tail.Records) != 0 || tail.Cut != "" {
			t.Errorf("node %d: records of an empty partition %d %+v", id, code, tail)
		}
		for _, path := range []string{"offsets?topic=nothing", "records?topic=nothing", "records?topic=orders&partition=3", "group?name=nobody"} {
			if code := board(t, m, path, nil); code != 404 {
				t.Errorf("node %d: %s: %d", id, path, code)
			}
		}
		var f dashboard.Figures
		if code := board(t, m, "figures", &f); code != 200 || f.Node != id || !f.Ready || len(f.Lags) != 2 || len(f.Winners) == 0 {
			t.Errorf("node %d: figures %d %+v", id, code, f)
		}
	}

	// The state says of each node what the node itself measures, and of one that is
	// gone that it is gone.
	var s struct {
		Set map[string]json.RawMessage `json:"set"`
	}
	item := func(key string, into any) {
		t.Helper()
		if err := json.Unmarshal(s.Set[key], into); err != nil {
			t.Fatalf("%s: %v in %s", key, err, s.Set[key])
		}
	}
	stored := 0.0
	c.Stop(3)
	testetcd.Eventually(t, "the node to be away and the others' figures to be there", func() bool {
		if board(t, c.Member(1), "state", &s) != 200 || s.Set["load/2"] == nil {
			return false
		}
		var n health.Node
		var gone, here dashboard.Load
		item("node/3", &n)
		item("load/3", &gone)
		item("load/2", &here)
		stored = here.Stored
		return !n.Alive && n.AwaySince != nil && gone.Error != "" && here.At > 0 && here.Error == ""
	})
	if stored == 0 {
		t.Error("node 2 stores nothing")
	}
	var o dashboard.Overview
	item("cluster", &o)
	if o.NodesUp != 2 || o.UnderReplicated != 3+8 || o.Partitions != 3+8 || o.Topics != 2 || o.Health.State != health.Degraded {
		t.Errorf("got %+v", o)
	}
}
