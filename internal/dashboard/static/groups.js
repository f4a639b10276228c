import { h, put, badge, count, href, link } from "./dom.js";
import { Poll } from "./store.js";
import { Table } from "./table.js";
import { asOf, cutNote, facts, nodeLink } from "./parts.js";
import { topicLink } from "./topics.js";

const groupLink = (name) => link(href("group", { name }), name || "(no name)");

const stateBadge = (state) => badge(state === "Stable" ? "ok" : state === "Empty" ? "plain" : "info", state);

// watched puts how old an answer is into an element.
const watched = (e, p) => put(e, p.error + Math.floor(p.stale ? p.age / 1000 : 0) + p.stale + Boolean(p.value), () => asOf(p));

export function groups(main) {
  const live = h("span"), note = h("div");
  const table = new Table({
    caption: "Groups", key: (g) => g.group, filter: (g) => g.group + " " + g.state, empty: "There is no group.",
    columns: [
      { title: "Group", main: true, value: (g) => g.group, show: (g) => groupLink(g.group) },
      { title: "State", value: (g) => g.state, show: (g) => stateBadge(g.state) },
      { title: "Members", num: true, value: (g) => g.members },
      { title: "Partitions", num: true, wide: true, value: (g) => g.partitions },
      { title: "Lag", num: true, value: (g) => g.lag, sign: (g) => g.unknown, show: (g) => h("span", {}, count(g.lag), g.unknown > 0 && badge("plain", "+ " + g.unknown + " unknown")) },
      { title: "Coordinator", num: true, wide: true, value: (g) => g.coordinator, show: (g) => nodeLink(g.coordinator) },
    ],
  });
  main.append(h("h1", {}, "Consumer groups"), h("section", { class: "card" }, h("div", { class: "head" }, live), note, table.element));
  const poll = new Poll("/api/dashboard/groups", null, 2000, (p) => {
    if (p.value) {
      put(note, p.value.cut + p.value.failed, () => [cutNote(p.value.cut), cutNote(p.value.failed)]);
      table.set(p.value.groups);
    }
    table.element.classList.toggle("stale", p.stale);
    watched(live, p);
  });
  return { title: "Groups", table, update() {}, tick: () => watched(live, poll), end: () => poll.end() };
}

export function group(main, query) {
  const name = query.get("name") || "";
  const live = h("span"), about = h("section", { class: "card" });
  const members = new Table({
    caption: "Members", key: (m) => m.member_id, empty: "The group has no member.",
    columns: [
      { title: "Member", main: true, value: (m) => m.member_id },
      { title: "Client", value: (m) => m.client_id },
      { title: "Host", wide: true, value: (m) => m.host },
      { title: "Instance", wide: true, value: (m) => m.instance_id || null },
      { title: "Assigned", value: (m) => Object.entries(m.assigned || {}).sort().map(([t, p]) => t + ":" + p.join(",")).join(" ") || "–" },
    ],
  });
  const offsets = new Table({
    caption: "Offsets", key: (o) => o.topic + "/" + o.partition, filter: (o) => o.topic + "/" + o.partition + " " + (o.member_id || ""), empty: "The group has committed nothing, and reads nothing.",
    columns: [
      { title: "Partition", main: true, value: (o) => o.topic + "/" + o.partition, show: (o) => h("span", {}, topicLink(o.topic), "/" + o.partition) },
      { title: "Committed", num: true, value: (o) => o.committed, show: (o) => count(o.committed) },
      { title: "End", num: true, value: (o) => o.end, show: (o) => count(o.end) },
      { title: "Lag", num: true, value: (o) => o.lag, show: (o) => count(o.lag) },
      { title: "Member", wide: true, value: (o) => o.member_id || null },
    ],
  });
  main.append(h("h1", {}, name || "(no name)"), about, h("section", { class: "card" }, h("h2", {}, "Partitions"), offsets.element), h("section", { class: "card" }, h("h2", {}, "Members"), members.element));
  const show = (p) => {
    const g = p.value;
    watched(live, p);
    put(about, JSON.stringify(g && { ...g, at: 0 }), () => [h("div", { class: "head" }, live), g && facts([
      ["State", stateBadge(g.state)], ["Coordinator", nodeLink(g.coordinator)], ["Protocol", [g.protocol_type, g.protocol].filter(Boolean).join("/") || "–"],
      ["Members", count(g.members.length)], ["Lag", count(g.offsets.reduce((sum, o) => sum + (o.lag || 0), 0))],
      g.offsets.some((o) => o.lag === null) && ["Lag not known of", count(g.offsets.filter((o) => o.lag === null).length) + " partitions"],
    ])]);
    members.set(g ? g.members : []);
    offsets.set(g ? g.offsets : []);
    for (const t of [members, offsets]) t.element.classList.toggle("stale", p.stale);
  };
  const poll = new Poll("/api/dashboard/group", { name }, 2000, show);
  return { title: "Group " + name, table: offsets, update() {}, tick: () => watched(live, poll), end: () => poll.end() };
}
