// The store holds what the node said last, and knows how old that is.

const lateBy = 2000; // ms that a message may be late before the page says so
const renewAfter = 8000; // ms without a message after which the connection is made anew

export const store = {
  items: new Map(), // key → value: see internal/dashboard/state.go
  points: [], // of the drawn lines
  page: "", // digest of the page that the node serves
  outdated: false, // the node serves another page than this one
  connected: false,
  reason: "", // why not
  heard: 0, // performance.now() of the last message
  clock: 0, // the node's clock in it
  within: 1000,
  seq: 0,

  get known() { return this.heard > 0; },
  // age of everything here, in ms.
  get age() { return this.heard ? performance.now() - this.heard : 0; },
  // now is the node's clock at this moment.
  get now() { return this.clock + this.age; },
  get live() { return this.connected && this.age < this.within + lateBy; },
  get cluster() { return this.items.get("cluster"); },

  get(key) { return this.items.get(key); },
  // all returns the values whose keys have a prefix.
  all(prefix) {
    const found = [];
    for (const [key, value] of this.items) if (key.startsWith(prefix)) found.push(value);
    return found;
  },
};

const listeners = new Set();

// onChange calls f after each message with the keys that changed (null: all).
export function onChange(f) {
  listeners.add(f);
  return () => listeners.delete(f);
}

// onLink calls f when the connection was made or lost.
let tellLink = () => {};
export function onLink(f) { tellLink = f; }

function take(m) {
  let changed = null;
  if (m.reset) {
    store.items.clear();
    store.points = [];
    if (store.page && m.page !== store.page) store.outdated = true;
    store.page = m.page;
  } else {
    changed = new Set(m.del || []);
    for (const key of m.del || []) store.items.delete(key);
  }
  for (const [key, value] of Object.entries(m.set || {})) {
    store.items.set(key, value);
    if (changed) changed.add(key);
  }
  if (m.points) store.points = store.points.concat(m.points).slice(-900);
  store.heard = performance.now() - (m.age || 0);
  store.clock = m.now;
  store.within = m.within;
  store.seq = m.seq;
  for (const f of listeners) f(changed);
}

let source = null;
let made = 0;
let retry = null;

export function connect() {
  clearTimeout(retry);
  retry = null;
  if (source) source.close();
  made = performance.now();
  const mine = (source = new EventSource("/api/dashboard/events"));
  mine.onmessage = (e) => {
    const was = store.live;
    take(JSON.parse(e.data));
    store.connected = true;
    store.reason = "";
    if (!was) tellLink();
  };
  mine.onerror = () => {
    if (mine !== source) return;
    store.connected = false;
    // The browser tries again by itself, unless the answer was an error.
    if (mine.readyState === EventSource.CLOSED && !retry) retry = setTimeout(explain, 1000);
    tellLink();
  };
}

// explain asks why the node does not send events, and connects again.
async function explain() {
  try {
    const answer = await fetch("/api/dashboard/state");
    if (!answer.ok) store.reason = (await answer.json()).error || "";
  } catch {
    store.reason = "";
  }
  connect();
}

// watch notices a connection that brings nothing, though nobody said that it broke.
export function watch() {
  setInterval(() => {
    if (!retry && performance.now() - Math.max(store.heard, made) > store.within + renewAfter) {
      store.connected = false;
      connect();
    }
    tellLink();
  }, 500);
}

// Poll asks for something again and again while a view shows it.
export class Poll {
  constructor(path, query, every, then, paused) {
    this.url = path + (query ? "?" + new URLSearchParams(query) : "");
    this.every = every;
    this.then = then;
    this.value = null; // the last good answer
    this.at = 0; // performance.now() of it
    this.error = ""; // why there is no newer one
    this.ended = false;
    this.paused = Boolean(paused);
    this.ask();
  }

  async ask() {
    const stop = new AbortController();
    this.stop = stop;
    const limit = setTimeout(() => stop.abort(), 8000);
    try {
      if (!this.paused && !document.hidden) {
        const answer = await fetch(this.url, { signal: stop.signal });
        const value = await answer.json();
        if (answer.ok) {
          this.value = value;
          this.at = performance.now();
          this.error = "";
        } else {
          this.error = value.error || "the node answered " + answer.status;
        }
      }
    } catch {
      this.error = "the node does not answer";
    }
    clearTimeout(limit);
    if (this.ended) return;
    this.then(this);
    this.timer = setTimeout(() => this.ask(), this.every);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    this.stop.abort();
  }

  // old says how old the answer is when that is worth saying, else "".
  get age() { return this.at ? performance.now() - this.at : 0; }
  get stale() { return this.value !== null && (this.error !== "" || this.age > this.every + 4000); }
}
