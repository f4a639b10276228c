package testcluster

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/raftsman/raftsman/internal/cluster"
)

// TestManyTopics creates, describes, alters and deletes topics with one request
// each: RAFTSMAN_TOPICS, 2000 for the full size.
func TestManyTopics(t *testing.T) {
	n := 300
	if most, err := strconv.Atoi(os.Getenv("RAFTSMAN_TOPICS")); err == nil {
		n = most
	}
	c := Start(t, 3, nil)
	m := c.metadata(t)
	adm := kadm.NewClient(c.Client())
	ctx := t.Context()
	adm.SetTimeoutMillis(60_000)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("many.%04d", i)
	}
	step := func(what string, do func()) {
		began := time.Now()
		do()
		t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond))
	}
	step("created", func() {
		rs, err := adm.CreateTopics(ctx, 1, 1, map[string]*string{"retention.ms": kadm.StringPtr("1000000")}, names...)
		if err == nil {
			err = rs.Error()
		}
		if err != nil || len(rs) != n {
			t.Fatal(len(rs), err)
		}
	})
	step("placed", func() {
		m.await("all assignments", func(v *cluster.View) bool { return len(v.Assignments) == n })
	})
	step("described", func() {
		rs, err := adm.DescribeTopicConfigs(ctx, names...)
		if err != nil || len(rs) != n {
			t.Fatal(len(rs), err)
		}
		for _, r := range rs {
			if r.Err != nil || len(r.Configs) < 20 {
				t.Fatalf("%s: %v, %d configurations", r.Name, r.Err, len(r.Configs))
			}
		}
	})
	step("altered", func() {
		rs, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{change("retention.ms", "2000000"), change("segment.bytes", "1048576")}, names...)
		if err != nil || len(rs) != n {
			t.Fatal(len(rs), err)
		}
		for _, r := range rs {
			if r.Err != nil {
				t.Fatal(r.Name, explain(r))
			}
		}
	})
	v := m.await("all alterations", func(v *cluster.View) bool {
		for _, t := range v.Topics {
			if t.Config["retention.ms"] != "2000000" || t.Config["segment.bytes"] != "1048576" {
				return false
			}
		}
		return true
	})
	if len(v.Topics) != n {
		t.Fatalf("%d topics", len(v.Topics))
	}
	step("deleted", func() {
		rs, err := adm.DeleteTopics(ctx, names...)
		if err == nil {
			err = rs.Error()
		}
		if err != nil || len(rs) != n {
			t.Fatal(len(rs), err)
		}
	})
	step("removed", func() {
		m.await("nothing", func(v *cluster.View) bool { return len(v.Topics) == 0 && len(v.Assignments) == 0 })
	})
}
