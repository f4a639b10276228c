import { h, text, count } from "./dom.js";

const pageSize = 100;

// Table shows rows a page at a time. An update touches only the cells whose value
// has changed, so that focus, selection and scroll position stay.
//
// A column has a title and value(row): what it is sorted and compared by. Where
// that is not what is shown, it has show(row), which returns text or an element,
// and sign(row): what that depends on besides the value. Others: num (aligned to the right), wide (left
// out where there is no room), main (the row's name).
export class Table {
  constructor({ caption, columns, key, sort, filter, empty, controls }) {
    Object.assign(this, { columns, key, filterOn: filter, empty: empty || "nothing" });
    [this.by, this.down] = sort || [0, false];
    this.rows = [];
    this.page = 0;
    this.lines = new Map(); // key → tr
    this.heads = columns.map((c, i) => {
      const button = h("button", { type: "button", class: "sort", onclick: () => this.sortBy(i) }, c.title);
      return h("th", { scope: "col", class: classOf(c) }, button);
    });
    this.body = h("tbody");
    this.none = h("p", { class: "none" });
    this.input = filter && h("input", { type: "search", class: "filter", placeholder: "Filter", "aria-label": "Filter " + caption, oninput: () => { this.page = 0; this.draw(); } });
    this.total = h("span", { class: "total" });
    this.back = h("button", { type: "button", class: "quiet back", onclick: () => this.turn(-1) }, "‹ Previous");
    this.next = h("button", { type: "button", class: "quiet next", onclick: () => this.turn(1) }, "Next ›");
    this.pager = h("span", { class: "pager" }, this.back, this.next);
    this.element = h("div", { class: "table" },
      h("div", { class: "bar" }, this.input, controls, h("span", { class: "grow" }), this.total, this.pager),
      h("table", {}, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, this.heads)), this.body),
      this.none);
  }

  sortBy(i) {
    this.down = this.by === i ? !this.down : Boolean(this.columns[i].num);
    this.by = i;
    this.page = 0;
    this.draw();
  }

  turn(by) {
    this.page += by;
    this.draw();
    this.element.scrollIntoView({ block: "start" });
  }

  set(rows) {
    this.rows = rows;
    this.draw();
  }

  found() {
    const words = this.input ? this.input.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
    let rows = this.rows;
    if (words.length) rows = rows.filter((r) => { const t = this.filterOn(r).toLowerCase(); return words.every((w) => t.includes(w)); });
    const value = this.columns[this.by].value, sign = this.down ? -1 : 1;
    return rows.map((r) => [value(r), r]).sort(([a, x], [b, y]) => sign * compare(a, b) || compare(this.key(x), this.key(y))).map(([, r]) => r);
  }

  draw() {
    const rows = this.found(), pages = Math.max(1, Math.ceil(rows.length / pageSize));
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const first = this.page * pageSize, visible = rows.slice(first, first + pageSize);
    this.heads.forEach((th, i) => {
      const order = i === this.by ? (this.down ? "descending" : "ascending") : "none";
      if (th.getAttribute("aria-sort") !== order) th.setAttribute("aria-sort", order);
    });
    const keep = new Set();
    let at = this.body.firstChild;
    for (const row of visible) {
      const key = this.key(row);
      keep.add(key);
      let tr = this.lines.get(key);
      if (!tr) {
        tr = h("tr", { "data-key": key }, this.columns.map((c) => h(c.main ? "th" : "td", { class: classOf(c), "data-title": c.title, scope: c.main ? "row" : null })));
        this.lines.set(key, tr);
      }
      this.fill(tr, row);
      if (tr === at) at = at.nextSibling;
      else this.body.insertBefore(tr, at);
    }
    for (const [key, tr] of this.lines) if (!keep.has(key)) { tr.remove(); this.lines.delete(key); }
    const none = rows.length ? "" : this.rows.length ? "No row matches the filter." : this.empty;
    text(this.none, none);
    this.none.hidden = !none;
    this.element.querySelector("table").hidden = Boolean(none);
    this.pager.hidden = pages === 1;
    this.back.disabled = this.page === 0;
    this.next.disabled = this.page === pages - 1;
    text(this.total, rows.length === 0 ? "" : pages === 1 && rows.length === this.rows.length ? count(rows.length) :
      (pages === 1 ? count(rows.length) : count(first + 1) + "–" + count(first + visible.length)) + " of " + count(pages === 1 ? this.rows.length : rows.length));
  }

  fill(tr, row) {
    this.columns.forEach((c, i) => {
      const td = tr.children[i], value = c.value(row), sign = (c.sign ? c.sign(row) + "\u0000" : "") + (typeof value) + value;
      if (td.sign !== sign) {
        td.sign = sign;
        td.replaceChildren(c.show ? c.show(row) : value === null || value === undefined ? "–" : String(value));
        if (value !== null && value !== undefined) td.setAttribute("data-value", value);
        else td.removeAttribute("data-value");
      }
    });
    const mark = this.mark ? this.mark(row) : "";
    if (tr.className !== mark) tr.className = mark;
  }

  focus() { if (this.input) this.input.focus(); }
}

function classOf(c) {
  return [c.num && "num", c.wide && "wide", c.main && "name", c.class].filter(Boolean).join(" ") || null;
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}
