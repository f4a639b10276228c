//go:build system

package system

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

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
