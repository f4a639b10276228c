import { h, put, badge, bytes, count, href, link, span, time } from "./dom.js";
import { Poll, store } from "./store.js";
import { Table } from "./table.js";
import { asOf, cutNote, facts, markPartition, odd, partitionColumns, partitionFilter } from "./parts.js";

export const topicLink = (name) => link(href("topic", { name }), name);

const bad = (n, kind) => (n ? badge(kind, count(n)) : "0");

export function topics(main) {
  const table = new Table({
    caption: "Topics", key: (t) => t.name, filter: (t) => t.name, empty: "There is no topic yet: raftsman topic create NAME",
    columns: [
      { title: "Topic", main: true, value: (t) => t.name, show: (t) => h("span", {}, topicLink(t.name), t.name.startsWith("__") && badge("plain", "internal")) },
      { title: "Partitions", num: true, value: (t) => t.partitions, show: (t) => count(t.partitions) },
      { title: "Replicas", num: true, wide: true, value: (t) => t.replication_factor },
      { title: "No leader", num: true, value: (t) => t.leaderless, show: (t) => bad(t.leaderless, "bad") },
      { title: "Under-replicated", num: true, value: (t) => t.under_replicated, show: (t) => bad(t.under_replicated, "warn") },
      { title: "Moving", num: true, wide: true, value: (t) => t.moving, show: (t) => bad(t.moving, "info") },
      { title: "Size, about", num: true, wide: true, value: (t) => t.bytes, show: (t) => bytes(t.bytes) },
    ],
  });
  table.mark = (t) => (t.leaderless ? "bad" : t.under_replicated ? "warn" : "");
  main.append(h("h1", {}, "Topics"), h("section", { class: "card" }, table.element));
  return { title: "Topics", table, update: (changed) => relevant(changed, "topic/") && table.set(store.all("topic/")) };
}

const relevant = (changed, prefix) => !changed || [...changed].some((k) => k.startsWith(prefix));

// more says which partitions are not in the state.
const more = () => (store.cluster.partitions_shown < store.cluster.partitions ?
  "Of " + count(store.cluster.partitions) + " partitions " + count(store.cluster.partitions_shown) + " are shown, first those that lack something; raftsman partition list shows all." : "");

export function topic(main, query) {
  const name = query.get("name") || "";
  const about = h("section", { class: "card" }), live = h("span"), note = h("div");
  let offsets = { start: [], end: [] };
  const at = (list, p) => list[p.partition] ?? null;
  const table = new Table({
    caption: "Partitions of " + name, key: (p) => String(p.partition), filter: partitionFilter,
    columns: [
      { title: "Partition", main: true, value: (p) => p.partition, show: (p) => link(href("records", { topic: name, partition: p.partition }), String(p.partition)) },
      ...partitionColumns,
      { title: "Start", num: true, wide: true, value: (p) => at(offsets.start, p), show: (p) => count(at(offsets.start, p)) },
      { title: "End", num: true, value: (p) => at(offsets.end, p), show: (p) => count(at(offsets.end, p)) },
      { title: "Size, about", num: true, wide: true, value: (p) => p.bytes ?? null, show: (p) => bytes(p.bytes) },
    ],
  });
  table.mark = markPartition;
  const card = h("section", { class: "card" }, h("div", { class: "head" }, h("h2", {}, "Partitions"), h("span", { class: "dim" }, "offsets: "), live), note, table.element);
  main.append(h("h1", {}, name), about, card);
  const rows = () => store.all("p/" + name + "/").filter((p) => p.topic === name);
  const poll = new Poll("/api/dashboard/offsets", { topic: name }, 2000, (p) => {
    if (p.value) offsets = p.value;
    table.element.classList.toggle("stale-offsets", p.stale);
    put(note, more() + (offsets.cut || ""), () => [cutNote(more()), cutNote(offsets.cut)]);
    put(live, p.error + p.stale + Math.floor(p.stale ? p.age / 1000 : 0) + Boolean(p.value), () => asOf(p));
    table.draw();
  }, !store.get("topic/" + name));
  return {
    title: name, table,
    update(changed) {
      const t = store.get("topic/" + name);
      put(about, JSON.stringify(t || null), () => t ? [
        facts([
          ["Partitions", count(t.partitions)], ["Replication factor", count(t.replication_factor)], ["Without a leader", bad(t.leaderless, "bad")],
          ["Under-replicated", bad(t.under_replicated, "warn")], ["Moving", bad(t.moving, "info")], ["Size, about", bytes(t.bytes)], ["Id", h("code", {}, t.id)],
          ...Object.entries(t.config || {}).sort().map(([k, v]) => [k, v]),
        ]),
        h("p", {}, link(href("records", { topic: name }), "Its last records")),
      ] : h("p", { class: "none" }, "There is no topic of this name."));
      poll.paused = !t;
      if (relevant(changed, "p/" + name + "/")) table.set(rows());
    },
    tick: () => put(live, poll.error + poll.stale + Math.floor(poll.stale ? poll.age / 1000 : 0) + Boolean(poll.value), () => asOf(poll)),
    end: () => poll.end(),
  };
}

export function partitions(main, query) {
  const only = h("input", { type: "checkbox", id: "only", onchange: () => table.set(rows()) });
  only.checked = query.has("odd");
  const table = new Table({
    caption: "Partitions", key: (p) => p.topic + "/" + p.partition, filter: partitionFilter, empty: "There is none.",
    controls: h("label", { for: "only" }, only, " only those that lack something"),
    columns: [
      { title: "Partition", main: true, value: (p) => p.topic + "/" + p.partition, show: (p) => h("span", {}, topicLink(p.topic), "/" + p.partition) },
      ...partitionColumns,
      { title: "Size, about", num: true, wide: true, value: (p) => p.bytes ?? null, show: (p) => bytes(p.bytes) },
    ],
  });
  table.mark = markPartition;
  const note = h("div");
  main.append(h("h1", {}, "Partitions"), h("section", { class: "card" }, note, table.element),
    h("p", { class: "dim" }, "The filter looks at names and at words such as leader:2, node:3, away:1, under-replicated and moving; all of its words must match."));
  const rows = () => store.all("p/").filter((p) => !only.checked || odd(p));
  return {
    title: "Partitions", table,
    update(changed) {
      put(note, more(), () => cutNote(more()));
      if (relevant(changed, "p/")) table.set(rows());
    },
  };
}

// records shows the last records of a topic: as text, whatever is in them.
export function records(main, query) {
  const name = query.get("topic") || "", partition = query.get("partition") || "-1";
  const choose = h("select", { "aria-label": "Partition", onchange: () => go(href("records", choose.value === "-1" ? { topic: name } : { topic: name, partition: choose.value })) });
  const pause = h("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => {
    poll.paused = !poll.paused;
    pause.setAttribute("aria-pressed", String(poll.paused));
    show();
  } }, "Pause");
  const live = h("span"), note = h("div"), list = h("ol", { class: "records" }), lines = new Map();
  main.append(h("h1", {}, "Records of ", topicLink(name)), h("section", { class: "card" },
    h("div", { class: "bar" }, choose, pause, h("span", { class: "grow" }), live), note, list));
  const show = () => put(live, poll.error + poll.stale + poll.paused + Boolean(poll.value) + Math.floor(poll.age / 1000) * Number(poll.stale || poll.paused), () =>
    poll.paused ? badge("old", "paused " + span(poll.age) + " ago") : asOf(poll));
  const poll = new Poll("/api/dashboard/records", { topic: name, partition, count: 50 }, 1000, (p) => {
    if (p.value && !p.error && !p.paused) {
      const none = !p.value.cut && !p.value.records.length;
      put(note, (p.value.cut || "") + none, () => (none ? h("p", { class: "none" }, "There is no record yet.") : cutNote(p.value.cut)));
      const keep = new Set();
      let at = list.firstChild;
      for (const r of p.value.records) {
        const key = r.partition + "/" + r.offset;
        keep.add(key);
        let li = lines.get(key);
        if (!li) lines.set(key, (li = record(r)));
        if (li === at) at = at.nextSibling;
        else list.insertBefore(li, at);
      }
      for (const [key, li] of lines) if (!keep.has(key)) { li.remove(); lines.delete(key); }
    }
    list.classList.toggle("stale", p.stale || p.paused);
    show();
  }, !store.get("topic/" + name));
  return {
    title: "Records of " + name, focus: choose,
    update() {
      const t = store.get("topic/" + name), all = t ? t.partitions : 0;
      put(choose, String(all), () => [h("option", { value: "-1" }, "all partitions"), ...Array.from({ length: all }, (_, i) => h("option", { value: i }, "partition " + i))]);
      choose.value = partition;
    },
    tick: show,
    end: () => poll.end(),
  };
}

let go = () => {};
export const onGo = (f) => { go = f; };

function record(r) {
  return h("li", { "data-key": r.partition + "/" + r.offset },
    h("p", { class: "where" }, h("b", {}, r.partition + "/" + count(r.offset)), " ", h("time", { datetime: new Date(r.time).toISOString() }, time(r.time)), r.key && [" key ", bits(r.key)], r.value && " " + bytes(r.value.bytes),
      (r.headers || []).map((x) => [" ", h("span", { class: "header" }, bits(x.key), "=", x.value ? bits(x.value) : "null")])),
    r.value ? h("pre", { tabindex: r.value.text.length > 400 ? 0 : null }, r.value.hex && h("span", { class: "dim" }, "hex "), r.value.text, r.value.cut && badge("plain", "… of " + bytes(r.value.bytes))) : h("p", { class: "dim" }, "no value: a deletion"));
}

const bits = (t) => h("code", {}, t.hex ? "0x" + t.text : t.text, t.cut && "…");

