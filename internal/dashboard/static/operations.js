import { h, badge, bytes, span, time } from "./dom.js";
import { store } from "./store.js";
import { Table } from "./table.js";

const kinds = { done: "ok", running: "info", pending: "plain", refused: "warn", failed: "bad", cancelled: "plain" };

function progress(o) {
  const p = o.progress, ended = kinds[o.state] && !["running", "pending"].includes(o.state);
  const words = [o.percent + " %", p && p.bytes_total ? bytes(p.bytes_done || 0) + " of " + bytes(p.bytes_total) : p && p.total ? p.done + " of " + p.total : "",
    !ended && p && p.estimate_seconds ? "about " + span(p.estimate_seconds * 1000) + " left" : ""].filter(Boolean).join(", ");
  return h("span", { class: "progress" }, h("progress", { max: 100, value: o.percent, "aria-label": o.title }), " ", words);
}

export function operations(main) {
  const table = new Table({
    caption: "Operations", key: (o) => o.id, filter: (o) => o.id + " " + o.title + " " + (o.state || "pending") + " " + (o.reason || ""), sort: [0, true],
    empty: "Nobody has asked for an operation: raftsman node drain, raftsman partition move and others do.",
    columns: [
      { title: "Operation", main: true, value: (o) => o.order, sign: (o) => o.title, show: (o) => h("span", {}, o.title, " ", h("span", { class: "dim" }, o.id)) },
      { title: "State", value: (o) => o.state || "pending", sign: (o) => o.cancel, show: (o) => h("span", {}, badge(kinds[o.state] || "plain", o.state || "pending"), o.cancel && o.state === "running" && badge("warn", "being cancelled")) },
      { title: "Progress", value: (o) => o.percent, sign: (o) => JSON.stringify([o.progress, o.state]), show: progress },
      { title: "Asked for", wide: true, value: (o) => o.created || null, show: (o) => time(o.created) },
      { title: "Ended", wide: true, value: (o) => o.finished || null, show: (o) => time(o.finished) },
      { title: "Reason", value: (o) => o.reason || "" },
    ],
  });
  table.mark = (o) => (o.state === "failed" ? "bad" : o.state === "refused" ? "warn" : "");
  main.append(h("h1", {}, "Operations"), h("section", { class: "card" }, table.element));
  return { title: "Operations", table, update: (changed) => (!changed || [...changed].some((k) => k.startsWith("op/"))) && table.set(store.all("op/")) };
}
