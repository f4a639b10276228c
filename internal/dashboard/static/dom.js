// Elements are made of text and properties, never of HTML: what comes from
// records and names can't become anything but text.

// h makes an element. Properties that begin with "on" are listeners, "data-…",
// "aria-…" and a few others attributes. Children that are null are left out.
export function h(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (name === "class") e.className = value;
    else e.setAttribute(name, value === true ? "" : value);
  }
  append(e, children);
  return e;
}

export function append(e, children) {
  for (const c of [children].flat(Infinity)) if (c !== null && c !== undefined && c !== false) e.append(c);
}

// s makes an element of SVG.
export function s(tag, attrs, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attrs || {})) e.setAttribute(name, value);
  append(e, children);
  return e;
}

// put replaces what is in an element when that has changed, as signature says.
export function put(e, signature, make) {
  if (e.signature === signature) return;
  e.signature = signature;
  e.replaceChildren();
  append(e, [make()]);
}

// text is put for one string.
export function text(e, value) {
  if (e.textContent !== value) e.textContent = value;
}

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

// bytes writes a size as the command line does.
export function bytes(n) {
  if (n === null || n === undefined) return "–";
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return (i === 0 || n >= 10 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}

// count writes a whole number so that it can be read.
export function count(n) {
  return n === null || n === undefined ? "–" : Math.round(n).toLocaleString("en-US");
}

// rate writes how many a second.
export function rate(n) {
  if (n === null || n === undefined) return "–";
  return n > 0 && n < 10 ? n.toFixed(1) : count(n);
}

export function seconds(n) {
  if (n === null || n === undefined) return "–";
  if (n === 0) return "0";
  if (n < 0.001) return Math.round(n * 1e6) + " µs";
  if (n < 0.01) return (n * 1e3).toFixed(1) + " ms";
  if (n < 1) return Math.round(n * 1e3) + " ms";
  return n < 10 ? n.toFixed(1) + " s" : Math.round(n) + " s";
}

// span writes a longer time, given in milliseconds.
export function span(ms) {
  const t = Math.max(0, Math.round(ms / 1000));
  if (t < 90) return t + " s";
  if (t < 5400) return Math.round(t / 60) + " min";
  if (t < 172800) return Math.floor(t / 3600) + " h " + Math.round((t % 3600) / 60) + " min";
  return Math.floor(t / 86400) + " days";
}

const day = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

// time writes a moment in this browser's time zone, with the date unless it is today's.
export function time(when) {
  const d = new Date(when);
  if (!when || isNaN(d)) return "–";
  const at = day.format(d);
  return (at === day.format(new Date()) ? "" : at + " ") + clock.format(d);
}

export const plural = (n, one, many) => count(n) + " " + (n === 1 ? one : many || one + "s");

export const href = (page, query) => "/ui/" + page + (query ? "?" + new URLSearchParams(query) : "");

export const link = (to, ...children) => h("a", { href: to }, ...children);

// badge is a word with a colour: ok, warn, bad, info or plain.
export const badge = (kind, ...children) => h("span", { class: "badge " + kind }, ...children);
