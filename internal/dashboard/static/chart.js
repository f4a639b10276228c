import { h, s, text, time } from "./dom.js";

const height = 132, left = 58, right = 8, top = 8, bottom = 20;
const gap = 3500; // ms between points, from which on nothing is known of what lies between

// Chart draws lines over time. Where nothing was measured there is no line, and
// where not all nodes have told there is a mark beneath it.
export class Chart {
  constructor({ title, lines, write, base }) {
    Object.assign(this, { title, lines, write, base: base || 1000, points: [], now: 0, span: 300000, at: null });
    this.values = lines.map(() => h("b"));
    const legend = lines.map((l, i) => h("span", { class: "key line-" + l.color }, h("i"), l.label + " ", this.values[i]));
    this.when = h("span", { class: "when" });
    this.svg = s("svg", { role: "img", tabindex: 0 });
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, h("span", { class: "title" }, title), h("span", { class: "legend" }, legend), this.when), this.svg);
    this.svg.addEventListener("pointermove", (e) => this.point(e.clientX - this.svg.getBoundingClientRect().left));
    this.svg.addEventListener("pointerleave", () => this.choose(null));
    this.svg.addEventListener("blur", () => this.choose(null));
    this.svg.addEventListener("keydown", (e) => this.key(e));
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.element);
  }

  end() { this.resized.disconnect(); }

  set(points, now, span) {
    this.span = span;
    this.now = now;
    this.points = points.filter((p) => p.t > now - span);
    this.draw();
  }

  x(t) { return left + (this.width - left - right) * (1 - (this.now - t) / this.span); }

  point(x) {
    let best = null;
    for (const p of this.points) if (best === null || Math.abs(this.x(p.t) - x) < Math.abs(this.x(best.t) - x)) best = p;
    this.choose(best && best.t);
  }

  key(e) {
    if (e.key !== "ArrowLeft" && e.key !== "ArrowRight" || !this.points.length) return;
    e.preventDefault();
    let i = this.points.findIndex((p) => p.t === this.at);
    if (i < 0) i = this.points.length;
    i = Math.min(Math.max(i + (e.key === "ArrowLeft" ? -1 : 1), 0), this.points.length - 1);
    this.choose(this.points[i].t);
  }

  choose(t) {
    this.at = t;
    this.draw();
  }

  draw() {
    this.width = Math.max(this.element.clientWidth, 160);
    const { width, points } = this;
    let most = 0;
    for (const p of points) for (const l of this.lines) most = Math.max(most, p[l.of] ?? 0);
    const steps = ticks(most, this.base), ceiling = steps[steps.length - 1] || 1;
    const y = (v) => top + (height - top - bottom) * (1 - v / ceiling);
    const parts = [];
    for (const v of steps) {
      parts.push(s("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
      parts.push(s("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, this.write(v)));
    }
    for (let i = 0; i <= 2; i++) {
      const ago = this.span * (1 - i / 2);
      parts.push(s("text", { x: left + (width - left - right) * i / 2, y: height - 5, "text-anchor": ["start", "middle", "end"][i] }, ago ? "−" + (ago < 60000 ? ago / 1000 + " s" : ago / 60000 + " min") : "now"));
    }
    for (const l of this.lines) {
      let path = "", last = null;
      for (const p of points) {
        const v = p[l.of];
        if (v !== null && v !== undefined) {
          path += (last !== null && p.t - last < gap ? "L" : "M") + this.x(p.t).toFixed(1) + " " + y(v).toFixed(1);
          if (last === null || p.t - last >= gap) path += "h0.1"; // a single point is seen too
          last = p.t;
        }
      }
      parts.push(s("path", { class: "line line-" + l.color, d: path }));
    }
    let part = "";
    for (const p of points) if (p.told < p.nodes) part += "M" + this.x(p.t - 500).toFixed(1) + " " + (height - bottom) + "H" + this.x(p.t + 500).toFixed(1);
    if (part) parts.push(s("path", { class: "partly", d: part }));
    const shown = points.find((p) => p.t === this.at) || null;
    if (shown) parts.push(s("line", { class: "cursor", x1: this.x(shown.t), x2: this.x(shown.t), y1: top, y2: height - bottom }));
    const newest = points.length && this.now - points[points.length - 1].t < gap ? points[points.length - 1] : null;
    const of = shown || newest;
    this.lines.forEach((l, i) => text(this.values[i], of && of[l.of] !== null ? this.write(of[l.of]) : "–"));
    text(this.when, shown ? "at " + time(shown.t) + (shown.told < shown.nodes ? ", " + shown.told + " of " + shown.nodes + " nodes" : "") :
      newest && newest.told < newest.nodes ? newest.told + " of " + newest.nodes + " nodes" : "");
    this.svg.setAttribute("viewBox", "0 0 " + width + " " + height);
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("aria-label", this.title + ": " + this.lines.map((l, i) => l.label + " " + this.values[i].textContent).join(", "));
    this.svg.replaceChildren(...parts);
  }
}

// ticks are round numbers, in units that are powers of base, from 0 to above the
// largest value.
export function ticks(most, base) {
  if (!(most > 0)) return [0, 1];
  if (base !== 1000) {
    const unit = base ** Math.max(0, Math.floor(Math.log(most) / Math.log(base)));
    return ticks(most / unit, 1000).map((v) => v * unit);
  }
  const raw = most / 3, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((v) => v >= raw);
  const all = [0];
  while (all[all.length - 1] < most) all.push(Number((all[all.length - 1] + step).toPrecision(12)));
  return all;
}
