import { h, badge, bytes, count, href, link, rate, seconds, span, time } from "./dom.js";
import { store } from "./store.js";

// What several views show in the same way.

export const nodeLink = (id) => (id > 0 ? link(href("node", { id }), "node " + id) : "none");

const severity = { healthy: "ok", info: "info", degraded: "warn", broken: "bad" };

export const health = (state) => badge("health " + severity[state], state);

// findings are what is wrong, with what to do.
export function findings(list) {
  if (!list.length) return h("p", { class: "none" }, "Nothing is wrong.");
  return h("ul", { class: "findings" }, list.map((f) => h("li", { class: severity[f.severity], "data-kind": f.kind },
    h("p", {}, badge(severity[f.severity], f.severity), " ", f.what, f.since && h("span", { class: "dim" }, " – since " + time(f.since))),
    f.do && h("p", { class: "do" }, f.do))));
}

// state of a node: what the others see of it, then what it says of itself.
export function nodeState(n) {
  if (!n.alive) return n.away_since ? "away since " + time(n.away_since) : "away";
  if (!n.registered) return "not registered";
  return n.wish || n.state || "?";
}

export function nodeBadge(n) {
  const state = nodeState(n);
  return badge(n.alive ? (state === "ready" ? "ok" : "warn") : "bad", state);
}

// patience is how old figures may be, in ms, before that is said: they come each
// second, messages within the time that the node has named.
export const patience = () => 2500 + store.within;

// old says how old a node's figures are, and why, when they are not of now.
export function old(load) {
  if (!load || !load.at) return load && load.error ? badge("old", "no figures") : badge("plain", "measuring");
  const age = store.now - load.at;
  return load.error || age > patience() ? badge("old", span(age) + " old") : null;
}

export const oldText = (load) => (!load || !load.at ? (load && load.error) || "" : load.error ? span(store.now - load.at) + load.error : "");

// figure makes a column of a node's load. One that is not of now is marked.
export function figure(title, of, write, more) {
  return {
    title, num: true, ...more,
    value: (n) => (n.load ? n.load[of] ?? null : null),
    sign: (n) => Boolean(n.load && n.load.error),
    show: (n) => {
      const v = n.load ? n.load[of] : null;
      return n.load && n.load.error && v !== null && v !== undefined ? h("span", { class: "stale", title: "as of " + time(n.load.at) + "; since then: " + n.load.error }, write(v)) : write(v);
    },
  };
}

export const figures = [
  figure("Records/s", "records", rate),
  figure("In/s", "bytes_in", bytes, { wide: true }),
  figure("Out/s", "bytes_out", bytes, { wide: true }),
  figure("Produce p99", "produce_p99", seconds, { wide: true }),
  figure("Fsync p99", "fsync_p99", seconds, { wide: true }),
  figure("Lag", "lag_seconds", seconds),
  figure("CPU", "cpu", (v) => (v === null || v === undefined ? "–" : v.toFixed(2)), { wide: true }),
  figure("Memory", "memory", bytes, { wide: true }),
  figure("Disk free", "disk_free", bytes, { wide: true }),
];

// nodeRows are all nodes with their loads.
export const nodeRows = () => store.all("node/").map((n) => ({ ...n, load: store.get("load/" + n.node) }));

export const nodeColumns = [
  { title: "Node", main: true, value: (n) => n.node, sign: (n) => store.cluster.winner === n.node,
    show: (n) => h("span", {}, nodeLink(n.node), store.cluster.winner === n.node && badge("info", "winner")) },
  { title: "State", value: nodeState, show: nodeBadge, sign: (n) => n.alive },
  { title: "Rack", wide: true, value: (n) => n.rack || null },
  { title: "Leads", num: true, value: (n) => n.leads, show: (n) => count(n.leads) },
  { title: "Replicas", num: true, wide: true, value: (n) => n.replicas, show: (n) => count(n.replicas) },
  { title: "Behind", num: true, wide: true, value: (n) => n.behind || 0 },
  ...figures,
  { title: "Figures", value: (n) => (n.load && n.load.at ? Math.floor((store.now - n.load.at) / patience()) : -1), sign: (n) => oldText(n.load), wide: true,
    show: (n) => old(n.load) || h("span", { class: "dim" }, "now") },
];

// replicas of a partition as chips: each says in text what its colour says.
export function replicas(p) {
  if (!p.replicas.length) return badge("bad", "not placed");
  return h("span", { class: "chips" }, p.replicas.map((n) => {
    const [kind, word] = replicaState(p, n);
    return h("span", { class: "chip " + kind, title: "node " + n + ": " + word }, String(n), h("span", { class: "word" }, word));
  }), p.moving && badge("info", "moving"));
}

function replicaState(p, n) {
  if ((p.offline || []).includes(n)) return ["bad", "away"];
  if ((p.wiped || []).includes(n)) return ["bad", "wiped"];
  if (p.leader === n) return ["lead", "leads"];
  if (p.in_sync.includes(n)) return ["ok", "in sync"];
  if ((p.lagging || []).includes(n)) return ["warn", "behind"];
  return ["warn", "no leader"];
}

export const replicaSign = (p) => JSON.stringify([p.replicas, p.leader, p.in_sync, p.lagging, p.offline, p.wiped, p.moving]);

export const odd = (p) => p.leader < 0 || p.moving || p.in_sync.length < p.replicas.length || !p.replicas.length;

export const partitionColumns = [
  { title: "Leader", num: true, value: (p) => p.leader, show: (p) => (p.leader < 0 ? badge("bad", "none") : String(p.leader)) },
  { title: "Term", num: true, wide: true, value: (p) => p.term },
  { title: "Replicas", value: (p) => p.replicas.join(","), sign: replicaSign, show: replicas },
  { title: "In sync", num: true, wide: true, value: (p) => p.in_sync.length, sign: (p) => p.replicas.length, show: (p) => p.in_sync.length + " of " + p.replicas.length },
];

export const markPartition = (p) => (p.leader < 0 ? "bad" : odd(p) ? "warn" : "");

// partitionFilter is what the filter looks at.
export const partitionFilter = (p) => p.topic + "/" + p.partition + " leader:" + (p.leader < 0 ? "none" : p.leader) + p.replicas.map((n) => " node:" + n).join("") +
  (p.moving ? " moving" : "") + (p.in_sync.length < p.replicas.length ? " under-replicated" : "") + (p.offline || []).map((n) => " away:" + n).join("");

// facts are names with values, in a list.
export const facts = (list) => h("dl", { class: "facts" }, list.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { "data-fact": name }, value))));

// asOf says how old the answer of a Poll is, and what went wrong.
export function asOf(poll) {
  if (poll.error) return badge("old", (poll.value ? "as of " + span(poll.age) + " ago; " : "") + poll.error);
  if (!poll.value) return h("span", { class: "dim" }, "asking …");
  return poll.stale ? badge("old", "as of " + span(poll.age) + " ago") : h("span", { class: "dim" }, "live");
}

export const cutNote = (note) => (note ? h("p", { class: "note" }, note) : null);

