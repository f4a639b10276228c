//go:build system

package system

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hostile is what a record, a key, a header and a group's name may hold.
const hostile = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script><svg onload="window.pwned=1">"'&{{7*7}}`

// TestDashboard drives a real browser over every page, while a cluster with 1,000
// partitions works, loses a node, and loses the one that serves the page.
func TestDashboard(t *testing.T) {
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

// keyboard reaches everything without a mouse.
func keyboard(t *testing.T, b *browser, home string) {
	b.open(home + "/ui/")
	b.press(tab)
	if got := eval[string](b, "document.activeElement.className"); got != "skip" {
		t.Errorf("the first tab goes to %q", got)
	}
	for i, title := range []string{"Overview", "Nodes", "Topics", "Partitions", "Consumer groups", "Operations"} {
		b.press(strconv.Itoa(i + 1))
		b.until("page "+title, fmt.Sprintf("document.querySelector('main h1')?.textContent === %q", title), 5*time.Second)
	}
	b.press("3")
	b.until("topics", `document.querySelector("tbody tr")`, 5*time.Second)
	b.press("/")
	b.press("numb")
	b.until("the filter", `document.querySelectorAll("tbody tr").length === 1`, 5*time.Second)
	b.press(escape)
	b.press("j")
	if got := eval[string](b, "document.activeElement.textContent"); got != "numbers" {
		t.Errorf("j goes to %q", got)
	}
	// What has the focus keeps it while messages come.
	b.messages(2)
	if got := eval[string](b, "document.activeElement.textContent"); got != "numbers" {
		t.Errorf("the focus went to %q", got)
	}
	b.press(enter)
	b.until("the topic", `document.querySelector("main h1").textContent === "numbers"`, 5*time.Second)
	b.press("?")
	b.until("the keys", `document.querySelector("#keys").open`, 5*time.Second)
	b.press(escape)
	b.until("the keys to be closed", `!document.querySelector("#keys").open`, 5*time.Second)
	for _, theme := range []string{"light", "dark", "auto"} {
		b.press("t")
		if got := eval[string](b, "document.documentElement.dataset.theme"); got != theme {
			t.Errorf("the theme is %q, not %q", got, theme)
		}
		dark := eval[bool](b, `getComputedStyle(document.documentElement).backgroundColor === "rgb(15, 18, 21)"`)
		if dark != (theme == "dark") { // the browser prefers light
			t.Errorf("with theme %s it is dark: %v", theme, dark)
		}
	}
	b.run(chromedp.NavigateBack())
	b.until("the page before", `document.querySelector("main h1")?.textContent === "Topics"`, 5*time.Second)
}

// messages waits until the page has taken n more.
func (b *browser) messages(n int) {
	b.t.Helper()
	b.until("messages", fmt.Sprintf(`(async () => {
		const { store } = await import("/ui/static/store.js");
		window.from ??= store.seq;
		if (store.seq < window.from + %d) return false;
		delete window.from;
		return true;
	})()`, n), 20*time.Second)
}

// manyPartitions: a thousand rows are filtered, sorted and turned quickly, and what
// does not change stays as it is.
func manyPartitions(t *testing.T, b *browser, home string) {
	b.open(home + "/ui/partitions")
	b.until("the first hundred rows", `document.querySelectorAll("tbody tr").length === 100`, 10*time.Second)
	if n := eval[int](b, `document.querySelectorAll("*").length`); n > 4000 {
		t.Errorf("the page has %d elements", n)
	}
	eval[any](b, `document.querySelectorAll("tbody tr").forEach((tr) => { tr.known = true; [...tr.children].forEach((td) => td.firstChild && (td.firstChild.known = true)); })`)
	b.messages(3)
	if n := eval[int](b, `[...document.querySelectorAll("tbody tr")].filter((tr) => !tr.known || [...tr.children].some((td) => td.firstChild && !td.firstChild.known)).length`); n > 0 {
		t.Errorf("%d of 100 rows were made anew, though nothing has changed", n)
	}
	b.press("/")
	b.press("many/99 leader:1")
	b.until("the filter", `[...document.querySelectorAll("tbody tr")].every((tr) => tr.dataset.key.startsWith("many/99") && tr.querySelector("[data-title=Leader]").dataset.value === "1")`, 5*time.Second)
	b.press(escape)
	took := eval[[]float64](b, `(() => {
		const input = document.querySelector(".filter"), times = [];
		for (const text of ["", "many", "many/5", "leader:2", "nothing at all", ""]) {
			const began = performance.now();
			input.value = text;
			input.dispatchEvent(new Event("input"));
			document.body.offsetHeight;
			times.push(performance.now() - began);
		}
		return times;
	})()`)
	t.Logf("1,000 partitions: filters took %.0f ms", took)
	b.press("]")
	b.until("the next hundred", `document.querySelector(".total").textContent.startsWith("101–200")`, 5*time.Second)
}

// inert: whatever a record or a name holds is text.
func inert(t *testing.T, b *browser, home string) {
	for _, path := range []string{"/ui/records?topic=hostile", "/ui/groups", "/ui/group?" + url.Values{"name": {hostile}}.Encode(), "/ui/topic?" + url.Values{"name": {hostile}}.Encode(), "/ui/" + url.PathEscape(hostile)} {
		b.run(chromedp.Navigate(home + path))
		b.until("the page to be live", live, 20*time.Second)
		if strings.Contains(path, "hostile") || strings.Contains(path, "group") {
			b.until("what it shows of it", fmt.Sprintf("document.querySelector('main').textContent.includes(%q)", hostile), 20*time.Second)
		}
		b.size(390, 900, "light")
		if over := eval[int](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
			t.Errorf("%s: %d pixels too wide: %s", path, over, eval[string](b, tooWide))
		}
		b.size(1280, 900, "light")
		if found := eval[int](b, `document.querySelectorAll("main img, main script, main svg[onload], [onerror], iframe, object").length`); found > 0 || eval[bool](b, "Boolean(window.pwned)") {
			t.Errorf("%s: text became %d elements", path, found)
		}
	}
	// Were one to make HTML of text, the browser would refuse it.
	if refused := eval[bool](b, `(() => { try { document.createElement("div").innerHTML = "<b>x</b>"; return false; } catch { return true; } })()`); !refused {
		t.Error("innerHTML takes text")
	}
	b.clean("Trusted", "404") // that was this test; the name that no topic has
}

// nodeKilled: while one watches, a node is killed; the page says so by itself.
func nodeKilled(t *testing.T, c *cluster, b *browser) {
	b.open("http://" + c.http[0] + "/ui/")
	b.until("node 3's figures", `document.querySelector('tr[data-key="3"] [data-title="Records/s"]').dataset.value`, 10*time.Second)
	eval[any](b, "void (window.loaded = true)")
	c.node(3).kill()
	killed := time.Now()
	known := make(chan time.Duration, 1)
	go func() {
		for !strings.Contains(c.page(1, "/health.json"), "node 3 is away") && time.Since(killed) < time.Minute {
		}
		known <- time.Since(killed)
	}()
	b.until("node 3 to be shown as away", `document.querySelector('tr[data-key="3"] [data-title=State]').textContent.startsWith("away")`, time.Minute)
	shown, api := time.Since(killed), <-known
	t.Logf("node 3 killed: the API says so after %v, the page after %v", api.Round(time.Millisecond), shown.Round(time.Millisecond))
	b.until("tiles and findings to say so too", `document.querySelector('[data-tile=Nodes]').textContent === "2 of 3" && document.querySelector('li[data-kind=node-away]')`, 10*time.Second)
	b.until("its figures to be marked as old", `document.querySelector('tr[data-key="3"] .stale') && document.querySelector('tr[data-key="3"] [data-title=Figures]').textContent.includes("old")`, 10*time.Second)
	b.until("the lines to say that not all told", `document.querySelector("path.partly")`, 10*time.Second)
	if !eval[bool](b, "window.loaded === true") {
		t.Error("the page was loaded anew")
	}
	b.shoot("node-killed-1280-light")
	b.run(chromedp.Navigate("http://" + c.http[0] + "/ui/partitions?odd=1"))
	b.until("partitions that lack a replica", `document.querySelector(".chip.bad")`, 20*time.Second)
	b.size(390, 900, "dark")
	b.shoot("node-killed-partitions-390-dark")
	b.size(1280, 900, "light")
	c.node(3).start()
	c.waitReady(3)
	b.until("nothing to be away", `!document.querySelector(".chip.bad")`, time.Minute)
}

// served: the node that serves the page is lost, and comes back.
func served(t *testing.T, c *cluster, b *browser) {
	b.open("http://" + c.http[0] + "/ui/")
	eval[any](b, "void (window.loaded = true)")
	b.clean()
	c.node(1).kill()
	killed := time.Now()
	b.until("the page to say that it is stale", `document.documentElement.dataset.link === "lost" && !document.querySelector("#banner").hidden`, 10*time.Second)
	t.Logf("the serving node killed: the page says so after %v", time.Since(killed).Round(time.Millisecond))
	b.until("the age of what it shows", `parseInt(document.querySelector("#age").textContent) >= 3`, 10*time.Second)
	b.until("its nodes' figures to be old too", `document.querySelector('tr[data-key="2"] [data-title=Figures]').textContent.includes("old")`, 20*time.Second)
	b.shoot("connection-lost-1280-light")
	b.size(390, 900, "dark")
	b.shoot("connection-lost-390-dark")
	if over := eval[int](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
		t.Errorf("the stale page is %d pixels too wide", over)
	}
	b.size(1280, 900, "light")
	if text := eval[string](b, `document.querySelector("#banner").textContent`); !strings.Contains(text, "as it was at") || !strings.Contains(text, "node 2") {
		t.Errorf("the banner says %q", text)
	}
	other := eval[string](b, `document.querySelector("#banner a").href`)
	if !slices.ContainsFunc(c.http[1:], func(addr string) bool { return other == "http://"+addr+"/ui/" }) {
		t.Errorf("the banner leads to %q", other)
	}
	c.node(1).start()
	c.waitReady(1)
	b.until("the page to be live again", live, 30*time.Second)
	if !eval[bool](b, `window.loaded === true && document.querySelector("#banner").hidden`) {
		t.Error("the page was loaded anew, or still says that it is stale")
	}
	b.clean("ERR_") // while there was nobody
}
