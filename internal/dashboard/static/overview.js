import { h, put, bytes, count, link, href, plural, rate, seconds, time, text } from "./dom.js";
import { store } from "./store.js";
import { Chart } from "./chart.js";
import { Table } from "./table.js";
import { findings, health, nodeColumns, nodeLink, nodeRows } from "./parts.js";

const charts = [
  { title: "Records stored per second", write: rate, lines: [{ of: "records", label: "all nodes", color: "a" }] },
  { title: "Bytes per second", write: bytes, base: 1024, lines: [{ of: "in", label: "in", color: "a" }, { of: "out", label: "out", color: "b" }] },
  { title: "Produce latency", write: seconds, lines: [{ of: "p50", label: "p50", color: "a" }, { of: "p99", label: "p99", color: "b" }] },
  { title: "Commit and fsync", write: seconds, lines: [{ of: "commit", label: "commit p99", color: "a" }, { of: "fsync", label: "fsync p99", color: "b" }] },
];

const choices = [1, 5, 15];
let chosen = 0; // minutes that the charts show; 0: as many as are needed

function minutes() {
  const all = store.points.filter((p) => p.t > store.now - 900000), age = all.length ? store.now - all[0].t : 0;
  return chosen || choices.find((m) => age < m * 60000) || 15;
}

// tile is a number with its name, and what there is to say about it.
function tile(name, value, more, kind, to) {
  return h(to ? "a" : "div", { class: "tile " + (kind || ""), href: to }, h("span", { class: "name" }, name), h("span", { class: "big", "data-tile": name }, value), h("span", { class: "more" }, more));
}

export function overview(main) {
  const status = h("section", { class: "card" }), tiles = h("section", { class: "tiles", "aria-label": "Numbers" });
  const drawn = charts.map((c) => new Chart(c));
  const spans = h("span", { class: "choice", role: "group", "aria-label": "Time that the charts show" }, choices.map((m) =>
    h("button", { type: "button", class: "quiet", onclick: () => { chosen = chosen === m ? 0 : m; draw(); } }, m + " min")));
  const nodes = new Table({ caption: "Nodes", columns: nodeColumns, key: (n) => String(n.node) });
  const winners = h("section", { class: "card" });
  nodes.mark = (n) => (n.alive ? "" : "bad");
  main.append(h("h1", { class: "unseen" }, "Overview"), status, tiles,
    h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Throughput and latency"), h("span", { class: "dim" }, "each over 5 s, of the nodes that answer; measured while a page is open"), spans), h("div", { class: "charts" }, drawn.map((c) => c.element))),
    h("section", { class: "card" }, h("h2", {}, link(href("nodes"), "Nodes")), nodes.element), winners);

  function draw() {
    const m = minutes();
    for (const c of drawn) c.set(store.points, store.now, m * 60000);
    choices.forEach((c, i) => spans.children[i].setAttribute("aria-pressed", String(c === m)));
  }
  return {
    title: "Overview",
    update() {
      const c = store.cluster;
      put(status, JSON.stringify(c.health), () => [h("h2", {}, "Health ", health(c.health.state)), findings(c.health.findings)]);
      put(tiles, JSON.stringify([c, store.all("winners")]), () => [
        tile("Nodes", c.nodes_up + " of " + c.nodes, "answer", c.nodes_up < c.nodes ? "bad" : "", href("nodes")),
        tile("Winner", c.winner > 0 ? "node " + c.winner : "none", since(c), c.winner > 0 ? "" : "warn"),
        tile("Topics", count(c.topics), "", "", href("topics")),
        tile("Partitions", count(c.partitions), c.moving ? plural(c.moving, "is on the move", "are on the move") : "", "", href("partitions")),
        tile("Without a leader", count(c.leaderless), "partitions", c.leaderless ? "bad" : "", href("partitions", { odd: 1 })),
        tile("Under-replicated", count(c.under_replicated), "partitions", c.under_replicated ? "warn" : "", href("partitions", { odd: 1 })),
        tile("Operations", count(c.operations), c.rebalance_paused ? "rebalancing is paused" : "running or waiting", c.rebalance_paused ? "warn" : "", href("operations")),
        tile("etcd", c.etcd_there ? "answers" : "away", c.source === "etcd" ? "node " + c.node + "’s view" : "from node " + c.node + "’s disk", c.etcd_there ? "" : "warn"),
      ]);
      nodes.set(nodeRows());
      draw();
      const terms = store.get("winners") || [];
      put(winners, JSON.stringify([terms, c.winner]), () => [
        h("h2", {}, "Winners"),
        h("p", { class: "dim" }, "The winner places and moves replicas. What the nodes that answer have seen since they started, the newest first."),
        terms.length ? h("ol", { class: "winners" }, terms.map((w, i) => h("li", { "data-revision": w.revision }, nodeLink(w.node), " ",
          h("span", {}, (w.before ? "before " : "since ") + time(w.seen)), i > 0 && h("span", { class: "dim" }, " until " + time(terms[i - 1].seen)),
          h("span", { class: "dim" }, " revision " + count(w.revision))))) : h("p", { class: "none" }, "No winner was seen yet."),
      ]);
    },
    tick() {
      if (store.live) return;
      draw();
      nodes.draw();
    },
    end() { for (const c of drawn) c.end(); },
  };
}

function since(c) {
  const [w] = store.get("winners") || [];
  return w && w.node === c.winner ? (w.before ? "before " : "since ") + time(w.seen) : c.winner > 0 ? "" : "nothing is placed or moved";
}
