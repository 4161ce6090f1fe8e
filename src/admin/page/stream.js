// The way to the proxy: /status once, for the history, then /events. Read by fetch and not by EventSource, which cannot send
// a token. It comes back by itself, later each time, and at once when somebody looks or asks.

const SILENCE = 5000; // a status comes every second
const UNSEEN = 60000; // the admin address has few connections: a tab that nobody sees gives its own back
const FIRST_TRY = 1000;
const LAST_TRY = 15000;

class Locked extends Error {}

class Stream {
  // Calls on.status(status), on.lost(milliseconds until the next try, the error if there is one) and
  // on.locked(was the token wrong).
  constructor(on) {
    this.on = on;
    this.token = sessionStorage.getItem("pgcorral_token");
    this.tries = 0;
    this.wake = () => {};
    this.abort = new AbortController();
    document.addEventListener("visibilitychange", () => this.look());
    window.addEventListener("online", () => this.wake());
  }

  async keep() {
    for (;;) {
      const error = await this.follow().catch((error) => error);
      await (error instanceof Locked ? this.locked() : this.rest(error));
    }
  }

  async follow() {
    this.abort = new AbortController();
    let silent = this.alarm();
    try {
      this.take(await (await this.ask("status")).json());
      const reader = (await this.ask("events")).body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let part; !(part = await reader.read()).done;) {
        clearTimeout(silent);
        silent = this.alarm();
        text = this.read(text + part.value);
      }
    } finally {
      clearTimeout(silent);
      this.abort.abort();
    }
  }

  alarm() {
    return setTimeout(() => this.abort.abort(), SILENCE);
  }

  async ask(path) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const reply = await fetch(path, { headers, signal: this.abort.signal, cache: "no-store" });
    if (reply.status === 401) throw new Locked();
    if (!reply.ok) throw new Error(`The proxy answered ${reply.status}.`);
    return reply;
  }

  // Events end with an empty line; what is left of the text is the beginning of the next.
  read(text) {
    const events = text.split(/\r?\n\r?\n/);
    const rest = events.pop();
    for (const event of events) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      if (!data.length) continue;
      this.tries = 0;
      this.take(JSON.parse(data.join("\n")));
    }
    return rest;
  }

  take(status) {
    // On its own: a mistake there is no lost connection.
    queueMicrotask(() => this.on.status(status));
  }

  locked() {
    this.on.locked(this.token !== null);
    return new Promise((resolve) => (this.unlock = resolve));
  }

  open(token) {
    this.token = token;
    sessionStorage.setItem("pgcorral_token", token);
    this.unlock();
  }

  // Between two tries: jittered, so that many pages do not come back together.
  async rest(error) {
    const most = Math.min(FIRST_TRY * 2 ** this.tries++, LAST_TRY);
    const time = most * (0.7 + 0.3 * Math.random());
    this.on.lost(time, error);
    await new Promise((resolve) => {
      this.wake = resolve;
      if (!document.hidden) setTimeout(resolve, time);
    });
  }

  look() {
    clearTimeout(this.unseen);
    if (document.hidden) this.unseen = setTimeout(() => this.abort.abort(), UNSEEN);
    else this.wake();
  }
}
