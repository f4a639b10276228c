import { h, badge, put, span, text, time } from "./dom.js";
import { connect, onChange, onLink, store, watch } from "./store.js";
import { overview } from "./overview.js";
import { node, nodes } from "./nodes.js";
import { onGo, partitions, records, topic, topics } from "./topics.js";
import { group, groups } from "./groups.js";
import { operations } from "./operations.js";

const pages = { "": overview, nodes, node, topics, topic, partitions, records, groups, group, operations };
const tabs = [["", "Overview"], ["nodes", "Nodes"], ["topics", "Topics"], ["partitions", "Partitions"], ["groups", "Groups"], ["operations", "Operations"]];
const within = { node: "nodes", topic: "topics", records: "topics", group: "groups" };

const $ = (id) => document.getElementById(id);
const main = $("main");
let view = null;

// Pages.

function open(focus) {
  if (view && view.end) view.end();
  view = null;
  main.replaceChildren();
  const name = location.pathname.replace(/^\/(ui\/?)?/, "").replace(/\/$/, "");
  for (const a of $("nav").children) {
    if (a.dataset.page === (within[name] || name)) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  const page = Object.hasOwn(pages, name) ? pages[name] : null;
  if (!page) {
    main.append(h("h1", {}, "There is no such page"), h("p", {}, location.pathname));
    view = { title: "No such page", update() {} };
  } else if (!store.known) {
    main.append(h("p", { class: "none" }, "Asking the node …"));
    document.title = "raftsman";
    return;
  } else {
    view = page(main, new URLSearchParams(location.search));
    view.update(null);
  }
  titled();
  if (focus) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function titled() {
  const c = store.cluster;
  document.title = (c && c.health.state !== "healthy" ? c.health.state + " – " : "") + (view ? view.title + " – " : "") + (c ? c.cluster + " – " : "") + "raftsman";
}

function go(to) {
  history.pushState(null, "", to);
  open(true);
}
onGo(go);
addEventListener("popstate", () => open(true));
addEventListener("click", (e) => {
  const a = e.target.closest("a[href]");
  if (!a || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey || a.origin !== location.origin || !a.pathname.startsWith("/ui")) return;
  e.preventDefault();
  go(a.href);
});
$("nav").append(...tabs.map(([page, title], i) => h("a", { href: "/ui/" + page, "data-page": page, "aria-keyshortcuts": String(i + 1) }, title)));

// What comes from the node.

onChange((changed) => {
  const c = store.cluster;
  text($("cluster-name"), c.cluster);
  if (!view) open(false);
  else view.update(changed);
  titled();
  put($("foot"), JSON.stringify([c.node, c.version, c.cluster_id, c.etcd]), () => ["As node " + c.node + " sees it. ", h("span", {}, "raftsman " + (c.version || "") + ", cluster " + c.cluster_id + ", etcd " + c.etcd.join(", "))]);
});

// Whether it still comes: if not, the whole page says so.

function tellLink() {
  const live = store.live, link = $("link"), banner = $("banner");
  document.documentElement.dataset.link = live ? "live" : store.known ? "lost" : "asking";
  put(link, live ? "live" + store.cluster.node : store.known ? "lost" : "asking", () => (live ? badge("ok", "live from node " + store.cluster.node) : badge(store.known ? "bad" : "plain", store.known ? "connection lost" : "connecting")));
  if (live) {
    banner.hidden = !store.outdated;
    put(banner, "outdated" + store.outdated, () => ["This page is older than the node that serves it. ", h("button", { type: "button", onclick: () => location.reload() }, "Load it again")]);
  } else if (store.known) {
    banner.hidden = false;
    put(banner, "lost" + store.reason + store.heard, () => [
      h("b", {}, "No connection to node " + store.cluster.node + ". "), "Everything below is as it was at " + time(store.clock) + ", ", h("b", { id: "age" }), " ago. ", store.reason + " ",
      others().length > 0 && ["Other nodes: ", others()],
    ]);
    text($("age"), span(store.age));
  } else {
    banner.hidden = !store.reason;
    put(banner, "asking" + store.reason, () => store.reason);
  }
  if (view && view.tick) view.tick();
}
onLink(tellLink);

// others are the pages of the nodes that answered when this one was last heard.
function others() {
  return store.all("node/").filter((n) => n.alive && n.http && n.node !== store.cluster.node).slice(0, 8).flatMap((n) => {
    try {
      const to = new URL(location.pathname + location.search, "http://" + n.http);
      return [h("a", { href: to.href, rel: "noreferrer" }, "node " + n.node), " "];
    } catch {
      return []; // that is no address
    }
  });
}

// Dark and light.

const themes = ["auto", "light", "dark"];
let theme = "auto";
try { theme = localStorage.getItem("theme") || "auto"; } catch { /* not kept, then */ }
function setTheme(to) {
  theme = themes.includes(to) ? to : "auto";
  document.documentElement.dataset.theme = theme;
  text($("theme"), { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[theme]);
  $("theme").setAttribute("aria-label", "Colours: " + theme + ". Change");
  try { localStorage.setItem("theme", theme); } catch { /* not kept, then */ }
}
$("theme").addEventListener("click", () => setTheme(themes[(themes.indexOf(theme) + 1) % themes.length]));
setTheme(theme);

// Keys.

const keys = [["1 – 6", "the pages, in their order"], ["/", "filter"], ["j  k", "the next, the previous row"], ["[  ]", "the previous, the next hundred rows"], ["Enter", "open"], ["t", "colours"], ["?", "this list"], ["Esc", "close it, or leave the filter"]];
$("keys").append(h("h2", { id: "keys-title" }, "Keys"), h("dl", {}, keys.map(([k, what]) => h("div", {}, h("dt", {}, h("kbd", {}, k)), h("dd", {}, what)))),
  h("button", { type: "button", onclick: () => $("keys").close() }, "Close"));
$("help").addEventListener("click", () => $("keys").showModal());

addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || $("keys").open) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) && e.target.type !== "checkbox") {
    if (e.key === "Escape") e.target.blur();
    return;
  }
  const table = view && view.table;
  if (e.key >= "1" && e.key <= String(tabs.length)) go("/ui/" + tabs[e.key - 1][0]);
  else if (e.key === "?") $("keys").showModal();
  else if (e.key === "t") $("theme").click();
  else if (e.key === "/" && table) table.focus();
  else if (e.key === "[" && table && !table.back.disabled) table.turn(-1);
  else if (e.key === "]" && table && !table.next.disabled) table.turn(1);
  else if (e.key === "j" || e.key === "k") step(e.key === "j" ? 1 : -1);
  else return;
  e.preventDefault();
});

// step moves to the link of the next row, or of the one before.
function step(by) {
  const rows = [...main.querySelectorAll("tbody th a")], at = rows.indexOf(document.activeElement);
  const to = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by];
  if (to) to.focus();
}

open(false);
tellLink();
connect();
watch();
