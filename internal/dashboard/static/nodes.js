import { h, put, bytes, count, plural, rate, seconds, span, time } from "./dom.js";
import { store } from "./store.js";
import { Table } from "./table.js";
import { facts, markPartition, nodeBadge, nodeColumns, nodeRows, nodeState, partitionColumns, partitionFilter, patience } from "./parts.js";
import { topicLink } from "./topics.js";

export function nodes(main) {
  const table = new Table({ caption: "Nodes", columns: nodeColumns, key: (n) => String(n.node), filter: (n) => n.node + " " + nodeState(n) + " " + (n.rack || "") + " " + (n.kafka || "") });
  table.mark = (n) => (n.alive ? "" : "bad");
  main.append(h("h1", {}, "Nodes"), h("section", { class: "card" }, table.element),
    h("p", { class: "dim" }, "Load is that of the last 5 s. Lag: how long ago the worst of a node’s replicas had all that its leader has; some tenths of a second are none."));
  return { title: "Nodes", table, update: () => table.set(nodeRows()), tick: () => store.live || table.draw() };
}

export function node(main, query) {
  const id = Number(query.get("id")), title = "Node " + id;
  const about = h("section", { class: "card" });
  const table = new Table({
    caption: "Partitions of node " + id, key: (p) => p.topic + "/" + p.partition, filter: partitionFilter, empty: "The node holds no replica.",
    columns: [{ title: "Partition", main: true, value: (p) => p.topic + "/" + p.partition, show: (p) => h("span", {}, topicLink(p.topic), "/" + p.partition) }, ...partitionColumns],
  });
  table.mark = markPartition;
  main.append(h("h1", {}, title), about, h("section", { class: "card" }, h("h2", {}, "Partitions with a replica here"), table.element));
  const view = {
    title, table,
    update(changed) {
      const n = store.get("node/" + id), load = store.get("load/" + id) || {};
      const stale = load.error || (load.at && store.now - load.at > patience());
      put(about, JSON.stringify([n, load, stale && Math.floor((store.now - load.at) / 1000), store.cluster.winner === id]), () => n ? [
        h("h2", {}, "State ", nodeBadge(n)),
        facts([
          ["Winner", store.cluster.winner === id ? "yes" : "no"], ["Rack", n.rack || "–"], ["Version", n.version || "–"], ["Started", time(n.started)],
          ["Kafka", n.kafka || "–"], ["HTTP", n.http || "–"], ["Peers", n.peer || "–"],
          ["Leads", count(n.leads)], ["Replicas", count(n.replicas)], ["Behind", count(n.behind || 0)],
        ]),
        h("h2", {}, "Load"),
        stale && h("p", { class: "note" }, load.at ? "Measured " + span(store.now - load.at) + " ago; there is nothing newer" + (load.error ? ": " + load.error : "") : "Not known: " + load.error),
        h("div", { class: stale ? "stale" : "" }, facts([
          ["Records stored/s", rate(load.records)], ["Bytes in/s", bytes(load.bytes_in)], ["Bytes out/s", bytes(load.bytes_out)], ["Client connections", count(load.connections)],
          ["Produce p50", seconds(load.produce_p50)], ["Produce p99", seconds(load.produce_p99)], ["Commit p99", seconds(load.commit_p99)], ["Fsync p99", seconds(load.fsync_p99)],
          ["Lag of the worst replica", seconds(load.lag_seconds) + (load.lag_entries ? ", " + plural(load.lag_entries, "entry", "entries") : "")],
          ["CPU of the process", load.cpu === null || load.cpu === undefined ? "–" : load.cpu.toFixed(2) + " cores"], ["Memory", bytes(load.memory)],
          ["Records on disk", bytes(load.stored)], ["Write-ahead log", bytes(load.log)], ["Disk free", bytes(load.disk_free)],
        ])),
      ] : h("p", { class: "none" }, "The cluster knows no node " + id + "."));
      if (!changed || [...changed].some((k) => k.startsWith("p/"))) table.set(store.all("p/").filter((p) => p.replicas.includes(id)));
    },
    tick: () => store.live || view.update(new Set()), // its figures grow old
  };
  return view;
}
