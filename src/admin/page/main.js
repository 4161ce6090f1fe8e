// What is known, and showing it.

const known = { status: null, points: [], received: 0, next: 0, why: "", paused: null, ago: 0, hover: null, tone: "" };

const plots = new Plots($("plots"), (ago) => {
  known.hover = ago;
  showPlots();
});

const tables = {
  pools: poolsTable($("pools")), upstreams: upstreamsTable($("upstreams")), functions: functionsTable($("functions")),
  sheds: shedsTable($("sheds")), warnings: warningsTable($("warnings")), record: recordTable($("points")),
};

function learn(status) {
  const before = known.status;
  const fresh = status.history ? status.history.points : [status.point];
  const times = new Map([...known.points, ...fresh].filter(Boolean).map((point) => [point.at, point]));
  const from = status.now - SPAN;
  known.points = [...times.values()].filter(({ at }) => at >= from && at <= status.now + 5).sort((a, b) => a.at - b.at);
  known.status = status;
  known.received = performance.now();
  if (document.body.dataset.link !== "live") announce(before ? "Connected again." : "Connected.");
  setLink("live");
  if (!known.paused) show();
}

// The points, and the present: queue and utilisation are known each second, rates and percentiles by step.
function timeline() {
  const { status, points } = known.paused || known;
  return [...points, { ...points.at(-1), at: status.now, utilisation: most(status.pools, (pool) => pool.utilisation),
    waiting: sum(status.pools, (pool) => pool.waiting), oldest: most(status.pools, (pool) => pool.oldest_wait_seconds) }];
}

function show() {
  const { status } = known.paused || known;
  showState(status);
  showPlots();
  tables.pools.show(status.pools);
  tables.upstreams.show(status.upstreams);
  tables.functions.show(functionsOf(status));
  tables.sheds.show(shedsOf(status));
  tables.warnings.show(status.warnings);
  showRecord();
}

function showState(status) {
  const { tone, word, text } = stateOf(status);
  document.body.dataset.tone = tone;
  say($("state-word"), `${word}: `);
  say($("state-text"), text);
  document.title = `${word} · pgcorral`;
  // Only a change of the state is read out; the numbers in the sentence change all the time.
  if (known.tone && known.tone !== word) announce(`${word}: ${text}`);
  known.tone = word;
  say($("version"), status.version);
  say($("up"), `up ${duration(status.now - status.started)}`);
  say($("ready"), status.ready ? "ready" : status.draining ? "draining" : "not ready");
  const facts = $("facts");
  factsOf(status).forEach(([name, value], n) => {
    if (!facts.children[n]) facts.append(make("div", {}, make("dt", {}, name), make("dd")));
    say(facts.children[n].lastChild, value);
  });
}

function showPlots() {
  const { status } = known.paused || known;
  if (!status) return;
  const ago = known.hover ?? known.ago;
  plots.show({ points: timeline(), now: status.now, ago });
  say($("moment"), ago < 0 ? clock(status.now + ago) : "now");
}

function showRecord() {
  if ($("record").open) tables.record.show(timeline().slice(0, -1).reverse());
}

function announce(text) {
  say($("said"), text);
}

function setLink(link) {
  document.body.dataset.link = link;
  $("lost").hidden = link !== "lost";
  $("unlock").hidden = link !== "locked";
  showLink();
}

function showLink() {
  const { link } = document.body.dataset;
  const { status, received, next } = known;
  const at = status && clock((known.paused || known).status.now);
  const words = { opening: "connecting", live: `live, ${at}`, lost: "not connected", locked: "locked" };
  say($("link"), known.paused ? `paused at ${at}` : words[link]);
  const now = performance.now();
  const stale = status ? ` The figures are those of ${clock(status.now)}, ${duration(Math.round((now - received) / 1000))} old.` : "";
  const wait = Math.ceil((next - now) / 1000);
  if (link === "lost") say($("lost-text"), `Connection lost.${known.why}${stale} ${wait > 0 ? `Next try in ${wait} s.` : "Trying."}`);
}

const stream = new Stream({
  status: learn,
  lost(time, error) {
    // What the browser says of its own errors differs, and helps nobody.
    known.why = error?.name === "Error" ? ` ${error.message}` : "";
    known.next = performance.now() + time;
    if (document.body.dataset.link !== "lost") announce("Connection lost. The figures are old.");
    setLink("lost");
  },
  locked(isWrong) {
    setLink("locked");
    say($("unlock-error"), isWrong ? "This is not the token." : "");
    $("token").focus();
  },
});

$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  $("token").value = "";
  // What a header cannot carry is no token.
  if (!/^[\x21-\x7e]+$/.test(token)) return say($("unlock-error"), "This is not the token.");
  setLink("opening");
  stream.open(token);
  $("state").focus();
});

$("retry").addEventListener("click", () => stream.wake());

$("pause").addEventListener("click", () => {
  known.paused = known.paused || !known.status ? null : { ...known };
  set($("pause"), { "aria-pressed": known.paused !== null });
  document.body.classList.toggle("paused", known.paused !== null);
  showLink();
  if (known.status) show();
});

$("ago").addEventListener("input", () => {
  known.ago = Number($("ago").value);
  showPlots();
  set($("ago"), { "aria-valuetext": known.ago ? `${$("moment").textContent}, ${duration(-known.ago)} ago` : "now" });
});

$("record").addEventListener("toggle", showRecord);
new ResizeObserver(showPlots).observe($("plots"));
setInterval(showLink, 1000);
stream.keep();
