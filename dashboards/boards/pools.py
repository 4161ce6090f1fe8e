"""Pools: the queue, the server connections and what clients keep, for each database and user."""

from . import link
from .board import Board
from .panel import NO_THRESHOLDS, heatmap, series, table
from .query import POOL, POOL_LABELS, POOL_LEGEND, Query, mean, quantile, quantiles, rate


def board():
    """Everything about pools."""
    made = Board(
        "pools",
        "pgcorral / Pools",
        "The queue, the server connections and what clients keep, for each database and user.",
        ["instance", "database", "user"],
    )
    made.row("Load")
    made.line(8, servers(), utilisation(), collapse())
    made.line(8, erlangs(), headroom(), pool_clients())
    made.row("Queue")
    made.line(8, depth(), oldest(), standing())
    made.line(8, waits(), outcomes(), wait_heatmap())
    made.line(8, refusals(), observed(), adaptive())
    made.row("Transactions")
    made.line(8, done(), holds(), hold_heatmap())
    made.row("What clients keep, and what took too long")
    made.line(8, pinned(), pins(), timeouts())
    made.line(8, abandoned(), prepared(), bytes_passed())
    made.line(8, extra_work(), pools())
    return made


def by_pool(expr):
    """A gauge of each pool."""
    return Query(f"max by ({POOL_LABELS}) ({expr})", POOL_LEGEND)


def gauge(metric):
    """The same for a metric as it is."""
    return by_pool(f"{metric}{{{POOL}}}")


def servers():
    return series(
        "Server connections by state",
        "What the server connections of the chosen pools do, and the limit on their sum. Mostly idle_in_transaction: clients "
        "pause inside their transactions. Mostly active: PostgreSQL is at work.",
        "short",
        NO_THRESHOLDS,
        [
            Query(f"sum by (state) (pgcorral_servers{{{POOL}}})", "{{state}}"),
            Query(f"sum(pgcorral_pool_limit{{{POOL}}})", "limit"),
        ],
        stacked=True,
        overrides=[
            {
                "matcher": {"id": "byName", "options": "limit"},
                "properties": [
                    {"id": "custom.stacking", "value": {"mode": "none", "group": "A"}},
                    {"id": "custom.fillOpacity", "value": 0},
                    {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
                ],
            }
        ],
    )


def utilisation():
    return series(
        "Utilisation",
        "Share of its limit that each pool uses, mean of the last 10 s.",
        "percentunit",
        ((0.8, "orange"), (0.95, "red")),
        [gauge("pgcorral_pool_utilisation")],
        highest=1,
    )


def collapse():
    return series(
        "Collapse ratio",
        "Clients times service time, over connections times (time-out plus pause): N·S / (c·(T+Z)). Above 1 a plain queue "
        "serves everybody just as they give up.",
        "none",
        ((0.7, "orange"), (1, "red")),
        [gauge("pgcorral_pool_collapse_ratio")],
        decimals=2,
    )


def erlangs():
    return series(
        "Connections in use (erlangs)",
        "Connection-seconds in a second, from the counter: exact over any range, and what to size a pool by.",
        "short",
        NO_THRESHOLDS,
        [
            Query(rate("pgcorral_pool_busy_seconds_total", POOL, POOL_LABELS), POOL_LEGEND),
            Query(f"sum(pgcorral_pool_erlangs{{{POOL}}})", "all, mean of the last 10 s"),
        ],
    )


def headroom():
    return series(
        "Headroom",
        "Further clients of the present kind until the collapse ratio is 1. At 0 there is no room for one more.",
        "short",
        NO_THRESHOLDS,
        [gauge("pgcorral_pool_headroom_clients")],
    )


def pool_clients():
    return series(
        "Clients logged in",
        "Clients of each pool, busy or not. They share the pool's server connections.",
        "short",
        NO_THRESHOLDS,
        [gauge("pgcorral_pool_clients")],
    )


def depth():
    return series(
        "Queue depth over its limit",
        "Clients that wait, as a share of max_waiting. At 1 the next one is refused with queue_full; the guard refuses long "
        "before.",
        "percentunit",
        ((0.5, "orange"), (0.9, "red")),
        [by_pool(f"pgcorral_queue_depth{{{POOL}}} / pgcorral_queue_limit{{{POOL}}}")],
    )


def oldest():
    return series(
        "Longest wait now",
        "How long the client has waited that waits longest. Up to burst_wait_timeout (6 s) while a burst is served.",
        "s",
        ((1.5, "orange"), (6, "red")),
        [gauge("pgcorral_queue_oldest_seconds")],
    )


def standing():
    return series(
        "Queue standing",
        "For how long the queue of some function of the pool has not been empty. Above query_wait_timeout (1.5 s) it is no burst; "
        "with a collapse ratio above 1 it is an overload, and 5 s later clients are served by lot.",
        "s",
        ((1.5, "orange"), (6.5, "red")),
        [gauge("pgcorral_queue_standing_seconds")],
    )


def waits():
    return series(
        "Waits",
        "How long transactions of all chosen pools waited, whatever became of them. Click for the traces of slow ones.",
        "s",
        ((0.5, "orange"), (1.5, "red")),
        quantiles("pgcorral_wait_seconds", POOL),
        links=[link.slow_waits(500)],
    )


def outcomes():
    return series(
        "How waits ended",
        "Waits by outcome. Abandoned and cancelled: the client itself gave up, its own time-out is shorter than the wait.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_wait_seconds_count", POOL, "outcome"), "{{outcome}}")],
        stacked=True,
    )


def wait_heatmap():
    return heatmap(
        "Waits of those who were served",
        "How waits are spread. Two bands: some are served at once and others wait, as with functions of different shares.",
        "s",
        Query(
            rate("pgcorral_wait_seconds_bucket", POOL + ',outcome="granted"', "le"), "{{le}}", heatmap=True
        ),
    )


def refusals():
    return series(
        "Refused, by reason",
        "Transactions that got an error instead of a server connection, by the reason in its DETAIL.",
        "ops",
        ((1, "red"),),
        [Query(rate("pgcorral_sheds_total", POOL, "reason"), "{{reason}}")],
        stacked=True,
    )


def observed():
    return series(
        "Would have been refused",
        'Transactions that were served and would have been refused early with admission = "enforce". Only pools that observe '
        "have any.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_sheds_observed_total", POOL, POOL_LABELS), POOL_LEGEND)],
    )


def adaptive():
    return series(
        "Adaptive limit",
        "Most transactions at once by the adaptive limit, where it is on; the pool's own limit beside it.",
        "short",
        NO_THRESHOLDS,
        [
            Query(
                f"max by ({POOL_LABELS}, mode) (pgcorral_pool_adaptive_limit{{{POOL}}})",
                "{{mode}} " + POOL_LEGEND,
            ),
            Query(f"max by ({POOL_LABELS}) (pgcorral_pool_limit{{{POOL}}})", "limit of " + POOL_LEGEND),
        ],
    )


def done():
    return series(
        "Transactions",
        "Transactions finished in a second by each pool: its goodput.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_transactions_total", POOL, POOL_LABELS), POOL_LEGEND)],
        stacked=True,
    )


def holds():
    return series(
        "How long server connections are held",
        "From the grant to the end of the transaction (or session). A pool does its limit over the mean of this in a second, and "
        "no more.",
        "s",
        ((1, "orange"), (10, "red")),
        quantiles("pgcorral_hold_seconds", POOL) + [Query(mean("pgcorral_hold_seconds", POOL), "mean")],
        links=[link.slow_spans("1s")],
    )


def hold_heatmap():
    return heatmap(
        "Holds",
        "How holds are spread. A band apart from the others is a kind of transaction of its own.",
        "s",
        Query(rate("pgcorral_hold_seconds_bucket", POOL, "le"), "{{le}}", heatmap=True),
    )


def pinned():
    return series(
        "Pinned clients over the pool's limit",
        "Share of each pool that clients keep beyond their transactions. pin_budget (default a half) bounds it; more are "
        "refused.",
        "percentunit",
        ((0.3, "orange"), (0.5, "red")),
        [by_pool(f"pgcorral_pinned_clients{{{POOL}}} / pgcorral_pool_limit{{{POOL}}}")],
    )


def pins():
    return series(
        "New pins by reason",
        "What makes clients keep their server connection. docs/session-state.md says how to do without.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_pins_total", POOL, "reason"), "{{reason}}")],
        stacked=True,
    )


def timeouts():
    return series(
        "Ended because it took too long",
        "Time-outs by reason. idle_in_transaction_timeout and client_stall_timeout: frozen functions. query_timeout and "
        "transaction_timeout: slow statements.",
        "ops",
        ((0.1, "orange"),),
        [Query(rate("pgcorral_timeouts_total", POOL, "reason"), "{{reason}}")],
        stacked=True,
    )


def abandoned():
    return series(
        "Clients that vanished",
        "Clients that went away while they waited or had a server connection, by what they were doing.",
        "ops",
        ((1, "orange"),),
        [Query(rate("pgcorral_abandoned_total", POOL, "phase"), "{{phase}}")],
        stacked=True,
    )


def prepared():
    return series(
        "Prepared statements found",
        "Prepared statements by whether the server connection had them. A miss costs PostgreSQL a parse.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_prepares_total", POOL, "result"), "{{result}}")],
        stacked=True,
    )


def bytes_passed():
    return series(
        "Bytes from and to clients",
        "Bytes of messages after the login.",
        "Bps",
        NO_THRESHOLDS,
        [
            Query(rate("pgcorral_client_received_bytes_total", POOL), "from clients"),
            Query(rate("pgcorral_client_sent_bytes_total", POOL), "to clients"),
        ],
    )


def extra_work():
    return series(
        "Work that the proxy adds",
        "Questions to PostgreSQL about what a transaction left behind, and batches sent again because what was prepared was out "
        "of date.",
        "ops",
        NO_THRESHOLDS,
        [
            Query(rate("pgcorral_audits_total", POOL), "questions"),
            Query(rate("pgcorral_reprepares_total", POOL), "batches sent again"),
        ],
    )


def pools():
    return table(
        "Pools now",
        "Every chosen pool with its mode, limit, use and refusals.",
        "short",
        NO_THRESHOLDS,
        [
            ("Mode", None, f"max by ({POOL_LABELS}, mode) (pgcorral_pool_info{{{POOL}}})"),
            ("Limit", "short", f"max by ({POOL_LABELS}) (pgcorral_pool_limit{{{POOL}}})"),
            ("Used", "percentunit", f"max by ({POOL_LABELS}) (pgcorral_pool_utilisation{{{POOL}}})"),
            ("Clients", "short", f"max by ({POOL_LABELS}) (pgcorral_pool_clients{{{POOL}}})"),
            ("Waiting", "short", f"max by ({POOL_LABELS}) (pgcorral_queue_depth{{{POOL}}})"),
            ("p99 wait", "s", quantile(0.99, "pgcorral_wait_seconds", POOL, POOL_LABELS)),
            ("Refused", "ops", rate("pgcorral_sheds_total", POOL, POOL_LABELS)),
        ],
        ["instance", "database", "user", "mode"],
        "Used",
    )
