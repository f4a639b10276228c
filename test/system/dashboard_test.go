//go:build system

package system

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hostile is what a record, a key, a header and a group's name may hold.
const hostile = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script><svg onload="window.pwned=1">"'&{{7*7}}`

// TestDashboard drives a real browser over every page, while a cluster with 1,000
// partitions works, loses a node, and loses the one that serves the page.
func TestDashboard(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("chromium-headless-shell"); err != nil {
		t.Fatalf("%v: run these tests with `make test-system`", err)
	}
	c := startCluster(t, 3, 3*time.Second)
	admin, _ := c.dashboardData(t)
	s := startSteady(t, c, "dashboard", 6)
	b := startBrowser(t)
	home := "http://" + c.http[0]

	b.size(1280, 900, "light")
	b.open(home + "/")
	b.until("the charts to be drawn", `[...document.querySelectorAll("path.line")].filter((p) => p.getAttribute("d").includes("L")).length >= 5`, 30*time.Second)
	pages(t, b, home)
	b.clean()
	s.halt()

	numbers(t, c, b, admin)
	keyboard(t, b, home)
	manyPartitions(t, b, home)
	inert(t, b, home)
	b.clean()
	nodeKilled(t, c, b)
	served(t, c, b)
}

// dashboardData makes topics, records, a group with a member, and an operation.
func (c *cluster) dashboardData(t *testing.T) (*kadm.Client, *kgo.Client) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100*time.Millisecond), kgo.UnknownTopicRetries(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	for _, topic := range []struct {
		name       string
		partitions int32
		replicas   int16
	}{{"numbers", 6, 3}, {"hostile", 1, 3}, {"many", 1000, 1}} {
		if resp, err := admin.CreateTopic(t.Context(), topic.partitions, topic.replicas, nil, topic.name); err != nil || resp.Err != nil {
			t.Fatalf("create %s: %v %v", topic.name, err, resp.Err)
		}
	}
	record := &kgo.Record{Topic: "hostile", Key: []byte(hostile), Value: []byte(hostile), Headers: []kgo.RecordHeader{{Key: hostile, Value: []byte(hostile)}}}
	if err := client.ProduceSync(t.Context(), record, &kgo.Record{Topic: "hostile", Value: []byte{0xff, 0, 1}}, &kgo.Record{Topic: "hostile", Key: []byte("gone")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var records []*kgo.Record
	for i := range 600 {
		records = append(records, &kgo.Record{Topic: "numbers", Partition: int32(i % 6), Key: fmt.Append(nil, "key-", i), Value: fmt.Appendf(nil, `{"order":%d,"state":"paid"}`, i)})
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	member, err := kgo.NewClient(kgo.SeedBrokers(c.kafka...), kgo.ConsumerGroup("billing"), kgo.ConsumeTopics("numbers"), kgo.DisableAutoCommit(), kgo.ClientID("billing-1"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MaxBufferedRecords(100))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Close)
	if err := member.CommitRecords(t.Context(), member.PollRecords(t.Context(), 100).Records()...); err != nil {
		t.Fatal(err)
	}
	offsets := make(kadm.Offsets)
	offsets.Add(kadm.Offset{Topic: "numbers", Partition: 2, At: 3, LeaderEpoch: -1})
	if _, err := admin.CommitOffsets(t.Context(), hostile, offsets); err != nil {
		t.Fatal(err)
	}
	if out, code := c.operator("partition", "transfer", "numbers/0", "--to", fmt.Sprint(c.leader("numbers", 0)%3+1)); code != 0 {
		t.Fatalf("transfer: exit code %d\n%s", code, out)
	}
	waitFor(t, "all partitions to have a leader", time.Minute, func() bool {
		out, code := c.operator("cluster", "status", "-o", "json")
		return code == 0 && strings.Contains(out, `"partitions": `) && strings.Contains(out, `"leaderless": 0`) && strings.Contains(out, `"under_replicated": 0`)
	})
	return admin, client
}

// pages looks at each in both widths and both schemes.
func pages(t *testing.T, b *browser, home string) {
	began, shots := time.Now(), 0
	for _, p := range []struct{ name, path, shows string }{
		{"nodes", "/ui/nodes", "tbody tr:nth-child(3)"},
		{"node", "/ui/node?id=2", ".facts dd, tbody tr:nth-child(100)"},
		{"topics", "/ui/topics", "tbody tr:nth-child(3)"},
		{"topic", "/ui/topic?name=numbers", "tbody tr:nth-child(6) td[data-title=End][data-value]"},
		{"partitions", "/ui/partitions", "tbody tr:nth-child(100)"},
		{"records", "/ui/records?topic=numbers", ".records li:nth-child(50)"},
		{"groups", "/ui/groups", "tbody tr:nth-child(2) td[data-title=Lag][data-value]"},
		{"group", "/ui/group?name=billing", "tbody tr:nth-child(6)"},
		{"operations", "/ui/operations", "progress"},
		{"overview", "/ui/", "tbody tr:nth-child(3) td[data-title=Lag][data-value]"},
	} {
		b.open(home + p.path)
		b.until(p.name+" to show something", fmt.Sprintf("document.querySelector(%q)", p.shows), 20*time.Second)
		for _, width := range []int64{1280, 390} {
			for _, scheme := range []string{"light", "dark"} {
				b.size(width, 900, scheme)
				name := fmt.Sprintf("%s-%d-%s", p.name, width, scheme)
				b.shoot(name)
				shots++
				if over := eval[int](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
					t.Errorf("%s: %d pixels too wide: %s", name, over, eval[string](b, tooWide))
				}
				if dark := eval[bool](b, `getComputedStyle(document.documentElement).backgroundColor === "rgb(15, 18, 21)"`); dark != (scheme == "dark") {
					t.Errorf("%s is not %s", name, scheme)
				}
			}
		}
		b.size(1280, 900, "light")
	}
	t.Logf("%d screenshots in %v", shots, time.Since(began).Round(time.Millisecond))
}

const tooWide = `[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).slice(0, 5).map((e) => e.tagName + "." + e.className).join(" ")`

// numbers holds what the pages show against what the command line says.
func numbers(t *testing.T, c *cluster, b *browser, admin *kadm.Client) {
	ask := func(into any, args ...string) {
		t.Helper()
		if args[0] != "topic" && args[0] != "group" {
			args = append(args, "--http", c.http[0])
		}
		out, err := c.raftsman(append(args, "-o", "json")...)
		if err != nil || json.Unmarshal([]byte(out), into) != nil {
			t.Fatalf("raftsman %v: %v\n%s", args, err, out)
		}
	}
	home := "http://" + c.http[0]
	tile := func(name string) string {
		return strings.ReplaceAll(eval[string](b, fmt.Sprintf("document.querySelector('[data-tile=%q]').textContent", name)), ",", "")
	}
	checked := 0
	same := func(what string, got any, want any) {
		t.Helper()
		checked++
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: the page shows %v, the command line %v", what, got, want)
		}
	}
	var status struct {
		Winner, Topics, Partitions, Leaderless, Operations int
		UnderReplicated                                    int `json:"under_replicated"`
		Health                                             string
		Nodes                                              []struct{ Node, Leads, Replicas int }
	}
	ask(&status, "cluster", "status")
	b.open(home + "/")
	same("winner", tile("Winner"), fmt.Sprint("node ", status.Winner))
	same("topics", tile("Topics"), status.Topics)
	same("partitions", tile("Partitions"), status.Partitions)
	same("without a leader", tile("Without a leader"), status.Leaderless)
	same("under-replicated", tile("Under-replicated"), status.UnderReplicated)
	same("operations", tile("Operations"), status.Operations)
	same("health", eval[string](b, `document.querySelector(".health").textContent`), status.Health)
	same("the first of the winners", eval[string](b, `document.querySelector(".winners a").textContent`), fmt.Sprint("node ", status.Winner))

	var nodes []struct{ Node, Leads, Replicas int }
	ask(&nodes, "node", "list")
	for i, n := range nodes {
		row := cells(b, "main table", n.Node)
		same(fmt.Sprintf("node %d leads", n.Node), row["Leads"], n.Leads)
		same(fmt.Sprintf("node %d replicas", n.Node), row["Replicas"], n.Replicas)
		same(fmt.Sprintf("node %d leads in cluster status", n.Node), row["Leads"], status.Nodes[i].Leads)
	}

	var topic struct {
		Details []struct {
			Partition, Leader, Start, End int
			Epoch                         int
			Replicas, ISR                 []int
		} `json:"partition_details"`
	}
	for _, name := range []string{"numbers", "__consumer_offsets"} {
		ask(&topic, "topic", "describe", name)
		b.open(home + "/ui/topic?name=" + name)
		b.until("the offsets of "+name, `document.querySelector("tbody td[data-title=End][data-value]")`, 20*time.Second)
		for _, p := range topic.Details[:min(len(topic.Details), 100)] {
			row, what := cells(b, "main table", p.Partition), fmt.Sprintf("%s/%d ", name, p.Partition)
			same(what+"leader", row["Leader"], p.Leader)
			same(what+"term", row["Term"], p.Epoch)
			same(what+"replicas", row["Replicas"], strings.Trim(strings.ReplaceAll(fmt.Sprint(p.Replicas), " ", ","), "[]"))
			same(what+"in sync", row["In sync"], len(p.ISR))
			same(what+"start", row["Start"], p.Start)
			same(what+"end", row["End"], p.End)
		}
	}

	var group struct {
		State       string
		Coordinator int
		Members     []any
		Offsets     []struct {
			Topic                          string
			Partition, End, Committed, Lag *int
		}
	}
	ask(&group, "group", "describe", "billing")
	b.open(home + "/ui/group?name=billing")
	b.until("the group's offsets", `document.querySelector("tbody td[data-title=Lag][data-value]")`, 20*time.Second)
	sum := 0
	for _, o := range group.Offsets {
		key := fmt.Sprintf("%s/%d", o.Topic, *o.Partition)
		row := cells(b, "main table", key)
		same(key+" committed", row["Committed"], shownNumber(o.Committed))
		same(key+" end", row["End"], shownNumber(o.End))
		same(key+" lag", row["Lag"], shownNumber(o.Lag))
		if o.Lag != nil {
			sum += *o.Lag
		}
	}
	fact := func(name string) string {
		return strings.ReplaceAll(eval[string](b, fmt.Sprintf("document.querySelector('[data-fact=%q]').textContent", name)), ",", "")
	}
	same("the group's state", fact("State"), group.State)
	same("the group's coordinator", fact("Coordinator"), fmt.Sprint("node ", group.Coordinator))
	same("the group's members", fact("Members"), len(group.Members))
	same("the group's lag", fact("Lag"), sum)
	b.open(home + "/ui/groups")
	b.until("the groups' lags", `document.querySelector("tbody td[data-title=Lag][data-value]")`, 20*time.Second)
	same("the group's lag in the list", cells(b, "main table", "billing")["Lag"], sum)

	// Operations, and the last records.
	var ops []struct{ ID, Kind, State string }
	ask(&ops, "ops", "list")
	b.open(home + "/ui/operations")
	for _, o := range ops {
		same("operation "+o.ID, cells(b, "main table", o.ID)["State"], o.State)
	}
	ends, err := admin.ListEndOffsets(t.Context(), "numbers")
	if err != nil {
		t.Fatal(err)
	}
	last, _ := ends.Lookup("numbers", 3)
	b.open(home + "/ui/records?topic=numbers&partition=3")
	b.until("the records", `document.querySelector(".records li:nth-child(50)")`, 20*time.Second)
	same("the newest record", eval[string](b, `document.querySelector(".records li").dataset.key`), fmt.Sprintf("3/%d", last.Offset-1))
	t.Logf("%d numbers are the same", checked)
}

func shownNumber(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

// cells are the values of a row of the first table that a selector finds.
func cells(b *browser, table string, key any) map[string]string {
	b.t.Helper()
	return eval[map[string]string](b, fmt.Sprintf(`(() => {
		const tr = [...document.querySelectorAll(%q + " tbody tr")].find((tr) => tr.dataset.key === %q);
		return tr ? Object.fromEntries([...tr.children].map((td) => [td.dataset.title, td.dataset.value ?? ""])) : {};
	})()`, table, fmt.Sprint(key)))
}
