// The sentence at the top: what an operator has to know first. The worst thing that is true is said, and nothing else.

// Server connections that a client has, or that a cancel request is under way for.
const inUse = (pool) => {
  const { active, idle_in_transaction, pinned, cancelling } = pool.servers;
  return active + idle_in_transaction + pinned + cancelling;
};

const poolName = (pool) => `${pool.database}/${pool.user}`;

// Each gives a sentence if it holds of this status: [tone, word, text].
const STATES = [draining, down, unready, saturated, refusing, short, busy, idle, calm];

function stateOf(status) {
  for (const state of STATES) {
    const found = state(status);
    if (found) return { tone: found[0], word: found[1], text: found[2] };
  }
}

function draining({ draining, clients }) {
  if (!draining) return null;
  const left = sum(Object.values(clients), (n) => n);
  return ["warn", "Draining", `${plural(left, "client is", "clients are")} still connected, ${whole(clients.active)} of them ` +
    "in a transaction; nobody new is let in."];
}

function down({ upstreams, pools }) {
  const away = upstreams.find((upstream) => upstream.breaker !== "closed");
  if (!away) return null;
  const refused = sum(pools, (pool) => pool.per_second.sheds);
  const then = away.breaker === "open" ? "arrivals are refused at once" : "one connection after the other is tried";
  return ["bad", "PostgreSQL is away", `${away.address} cannot be used, ${then}; ${perSecond(refused)} refused.`];
}

function unready({ ready, reason }) {
  return ready ? null : ["bad", "Not ready", `${reason || "no reason is known"}.`];
}

// A queue that stands and is served in time is no overload: one in which somebody is refused is.
const isOverloaded = (pool) => pool.waiting > 0 && pool.per_second.sheds > 0;

function saturated({ pools }) {
  const over = pools.filter(isOverloaded);
  if (!over.length) return null;
  const pool = worst(over);
  const more = over.length > 1 ? `; ${plural(over.length - 1, "further pool", "further pools")} too` : "";
  return ["bad", inUse(pool) ? "Saturated" : "No server connection", `${queueOf(pool)}, ${perSecond(pool.per_second.sheds)} refused${more}.`];
}

function refusing({ sheds }) {
  const reasons = Object.entries(sheds).sort((a, b) => b[1] - a[1]);
  const all = sum(reasons, ([, rate]) => rate);
  if (all < 0.05) return null;
  return ["warn", "Refusing", `${perSecond(all)} refused, mostly ${reasons[0][0]}.`];
}

function short({ upstreams }) {
  const full = upstreams.find((upstream) => upstream.budget < upstream.limit);
  if (!full) return null;
  return ["warn", "Short of connections", `${full.address} has room for ${whole(full.budget)} of ${whole(full.limit)} ` +
    "server connections."];
}

function busy({ pools }) {
  const waiting = pools.filter((pool) => pool.waiting > 0 || pool.utilisation > 0.9);
  if (!waiting.length) return null;
  return ["warn", "Busy", `${queueOf(worst(waiting))}; nobody is refused.`];
}

function idle({ clients }) {
  return sum(Object.values(clients), (n) => n) ? null : ["good", "Idle", "no client is connected."];
}

function calm({ pools }) {
  return ["good", "Calm", `${whole(sum(pools, inUse))} of ${whole(sum(pools, (pool) => pool.limit))} server connections in use, ` +
    `nobody waits, ${perSecond(sum(pools, (pool) => pool.per_second.transactions))} served.`];
}

// Which pool is looked at first.
const weight = (pool) => pool.per_second.sheds * 1e6 + pool.standing_seconds * 1e3 + pool.waiting + pool.utilisation;

function worst(pools) {
  return pools.reduce((worst, pool) => (weight(pool) > weight(worst) ? pool : worst));
}

function queueOf(pool) {
  const waits = pool.waiting ? `${plural(pool.waiting, "client waits", "clients wait")}` : "nobody waits";
  const since = pool.waiting ? ` (the oldest for ${duration(pool.oldest_wait_seconds)})` : "";
  return `pool ${poolName(pool)} has ${whole(inUse(pool))} of ${whole(pool.limit)} server connections in use, ${waits}${since}`;
}
