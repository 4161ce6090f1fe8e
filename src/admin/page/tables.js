// The tables of the page: which there are, and what their columns show.

const STATES_OF_SERVERS = ["active", "idle_in_transaction", "pinned", "cancelling", "idle", "dialling", "closing"];

const spaced = (word) => word.replaceAll("_", " ");

// The server connections of a pool: a bar of their states, and the same in words.
function fillServers(cell, pool) {
  if (!cell.firstChild) {
    const parts = STATES_OF_SERVERS.map((state) => make("i", { class: state }));
    cell.append(make("span", { class: "stack", "aria-hidden": "true" }, ...parts), make("span", { class: "words" }));
  }
  const [stack, words] = cell.children;
  STATES_OF_SERVERS.forEach((state, n) => {
    stack.children[n].style.width = `${(100 * pool.servers[state]) / Math.max(pool.limit, 1)}%`;
  });
  const there = STATES_OF_SERVERS.filter((state) => pool.servers[state]);
  say(words, there.map((state) => `${whole(pool.servers[state])} ${spaced(state)}`).join(", ") || "none open");
}

function fillShare(cell, { share }) {
  if (!cell.firstChild) cell.append(make("span", { class: "share", "aria-hidden": "true" }, make("i")), make("span"));
  const [bar, words] = cell.children;
  bar.firstChild.style.width = `${100 * Math.min(share, 1)}%`;
  say(words, percent(share));
}

const number = (head, of, show = whole) => ({ head, number: true, text: (row) => show(of(row)) });

const sortable = (head, of, show = whole) => ({ ...number(head, of, show), by: of });

const ratio = (n) => n.toFixed(2);

const poolsTable = (host) => new Table(host, {
  caption: "Pools: server connections by state, clients and rates", id: poolName, few: 6, what: "pools", look: "cards", by: { by: weight },
  columns: [
    { head: "Pool", text: poolName },
    { head: "Server connections by state", look: "wide", fill: fillServers },
    { head: "In use", number: true, text: (pool) => `${whole(inUse(pool))} of ${whole(pool.limit)}` },
    number("Utilisation", (pool) => pool.utilisation, percent),
    number("Waiting", (pool) => pool.waiting),
    number("Oldest", (pool) => pool.oldest_wait_seconds, duration),
    number("Standing", (pool) => pool.standing_seconds, duration),
    number("Served", (pool) => pool.per_second.transactions, perSecond),
    number("Refused", (pool) => pool.per_second.sheds, perSecond),
    number("Errors", (pool) => pool.per_second.errors, perSecond),
    number("Clients", (pool) => pool.clients),
    number("Headroom", (pool) => pool.headroom, (n) => (n === null ? "–" : whole(n))),
    number("Collapse ratio", (pool) => pool.collapse_ratio, ratio),
  ],
});

const upstreamsTable = (host) => new Table(host, {
  caption: "PostgreSQL servers: breaker and budget of connections", id: (upstream) => upstream.address,
  columns: [
    { head: "Server", text: (upstream) => upstream.address },
    { head: "Breaker", text: (upstream) => spaced(upstream.breaker) },
    { head: "Budget", number: true, text: (upstream) => `${whole(upstream.budget)} of ${whole(upstream.limit)}` },
    number("It allows", (upstream) => upstream.max_connections, (n) => (n === null ? "–" : whole(n))),
  ],
});

// Sorted by the connections that it is: all of a pool that does little is little.
const share = { head: "Share of pool", number: true, look: "sharing", fill: fillShare, by: (row) => row.share * row.erlangs };

const functionsTable = (host) => new Table(host, {
  caption: "Functions: who uses and who waits for server connections", id: (row) => JSON.stringify([row.pool, row.name]),
  few: 8, what: "functions", by: share, look: "cards",
  columns: [
    { head: "Function", text: (row) => row.name || "(no name)" },
    { head: "Pool", text: (row) => row.pool },
    share,
    sortable("In use", (row) => row.active),
    sortable("Waiting", (row) => row.waiting),
    sortable("Mean wait", (row) => row.wait_seconds, duration),
    sortable("Held in all", (row) => row.held_seconds, duration),
    sortable("Served", (row) => row.transactions),
    sortable("Refused", (row) => row.sheds),
  ],
});

const shedsTable = (host) => new Table(host, {
  caption: "Refused, by reason", id: (row) => row.reason, none: "nobody was refused since the start",
  columns: [
    { head: "Reason", text: (row) => row.reason },
    number("now", (row) => row.rate, perSecond),
    number("in all", (row) => row.total),
  ],
});

const warningsTable = (host) => new Table(host, {
  caption: "Latest warnings of the log", id: (row) => `${row.at} ${row.module} ${row.message}`, few: 6, what: "warnings", look: "cards",
  columns: [
    { head: "Time", look: "time", text: (row) => clock(row.at) },
    { head: "Warning", look: "message", text: (row) => `${row.message} (${row.module.replace(/^pgcorral::/, "")})` },
  ],
});

const recordTable = (host) => new Table(host, {
  caption: "The figures of the plots, newest first", id: (point) => point.at,
  columns: [
    { head: "Time", text: (point) => clock(point.at) },
    ...PLOTS.flatMap((plot) => plot.series.map((series) =>
      number(`${plot.title} ${series.name}`.trim(), series.of, (value) => shown(plot, value)))),
  ],
});

// What /status has in several places, in rows.

const functionsOf = ({ pools }) => pools.flatMap((pool) => pool.functions.map((row) => ({ ...row, pool: poolName(pool), erlangs: pool.erlangs })));

function shedsOf({ pools, sheds }) {
  const totals = {};
  for (const pool of pools) {
    for (const [reason, total] of Object.entries(pool.sheds)) totals[reason] = (totals[reason] || 0) + total;
  }
  for (const reason of Object.keys(sheds)) totals[reason] ??= 0;
  const rows = Object.entries(totals).map(([reason, total]) => ({ reason, total, rate: sheds[reason] || 0 }));
  return rows.sort((a, b) => b.rate - a.rate || b.total - a.total);
}

function factsOf({ clients, logins, process }) {
  const waiting = logins.waiting ? `, ${whole(logins.waiting)} wait for their turn` : "";
  return [
    ["Clients", `${whole(sum(Object.values(clients), (n) => n))}: ${whole(clients.active)} active, ${whole(clients.waiting)} waiting, ` +
      `${whole(clients.idle)} idle, ${whole(clients.login)} at login`],
    ["Logins", `${perSecond(logins.per_second)}, ${whole(logins.in_flight)} under way${waiting}`],
    ["Memory", `${bytes(process.memory_bytes)}, ${bytes(process.spool_bytes)} spooled`],
    ["Files", `${whole(process.open_files)} of ${whole(process.max_files)}`],
  ];
}
