"""Database health: what PostgreSQL does with what it is asked, without the clients' pauses and the proxy's queue."""

from . import link
from .board import Board
from .panel import NO_THRESHOLDS, heatmap, series
from .query import INSTANCE, POOL, POOL_LABELS, POOL_LEGEND, Query, quantile, quantiles, rate


def board():
    """Everything about PostgreSQL as the proxy sees it."""
    made = Board(
        "database",
        "pgcorral / Database health",
        "What PostgreSQL does with what it is asked, as the proxy sees it: without the clients' pauses and without the queue.",
        ["instance", "database", "user"],
    )
    made.row("How fast it answers")
    made.line(9, answers(), first_rows(), spread())
    made.line(9, by_pool(), at_work(), pauses())
    made.row("What it gets done")
    made.line(9, statements(), errors(), lost())
    made.row("Whether it lets the proxy in")
    made.line(9, breaker(), budget(), failures())
    return made


def answers():
    return series(
        "Time to answer a request",
        "From a request to PostgreSQL to its ReadyForQuery: what the database took. Click for the traces of slow ones.",
        "s",
        ((0.5, "orange"), (5, "red")),
        quantiles("pgcorral_exec_seconds", POOL),
        links=[link.slow_spans("500ms")],
    )


def first_rows():
    return series(
        "Time to the first row",
        "From a request to its first row. Close to the time of the whole answer: it is the query that is slow, not the sending "
        "of its rows.",
        "s",
        ((0.5, "orange"), (5, "red")),
        quantiles("pgcorral_first_row_seconds", POOL),
        links=[link.slow_spans("500ms")],
    )


def spread():
    return heatmap(
        "Answers",
        "How the times of answers are spread. All of it moving up at once: locks, disks or too many at once; one band of its own: "
        "one kind of query.",
        "s",
        Query(rate("pgcorral_exec_seconds_bucket", POOL, "le"), "{{le}}", heatmap=True),
    )


def by_pool():
    return series(
        "Time to answer by pool, p99",
        "The slowest hundredth of each pool. All pools slow: the server. One pool slow: its queries.",
        "s",
        ((0.5, "orange"), (5, "red")),
        [Query(quantile(0.99, "pgcorral_exec_seconds", POOL, POOL_LABELS), POOL_LEGEND)],
        links=[link.pool()],
    )


def at_work():
    return series(
        "Requests at work at once",
        "Requests that PostgreSQL works on, on the average. More than its cores and disks can do makes all of them slower; see "
        "adaptive_limit.",
        "short",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_exec_seconds_sum", POOL, POOL_LABELS), POOL_LEGEND)],
        stacked=True,
    )


def pauses():
    held = rate("pgcorral_hold_seconds_sum", POOL, POOL_LABELS)
    worked = rate("pgcorral_exec_seconds_sum", POOL, POOL_LABELS)
    return series(
        "Held without work",
        "Share of the time that server connections are held in which PostgreSQL has nothing to do: clients pause inside their "
        "transactions. Much of it: the functions waste the pool, not the database.",
        "percentunit",
        ((0.5, "orange"), (0.8, "red")),
        # A hold is counted at its end and the requests in it before, so that within a short range there may be more of them.
        [Query(f"clamp_min(1 - {worked} / ({held} > 0), 0)", POOL_LEGEND)],
        highest=1,
    )


def statements():
    return series(
        "Statements and transactions",
        "Statements that PostgreSQL completed and transactions that ended, in a second.",
        "ops",
        NO_THRESHOLDS,
        [
            Query(rate("pgcorral_queries_total", POOL), "statements"),
            Query(rate("pgcorral_transactions_total", POOL), "transactions"),
        ],
    )


def errors():
    return series(
        "Errors of PostgreSQL by class",
        "Errors that were passed on to clients, by SQLSTATE class. 23: constraints. 40: deadlocks and serialization. 53: out of "
        "resources. 57: cancelled or shut down. XX: a fault of PostgreSQL.",
        "ops",
        ((1, "orange"),),
        [Query(rate("pgcorral_server_errors_total", POOL, "class"), "{{class}}")],
        stacked=True,
    )


def lost():
    return series(
        "Server connections lost",
        "Server connections that PostgreSQL closed, or whose replies no longer fitted. Zero but for restarts.",
        "ops",
        ((0.1, "red"),),
        [
            Query(
                rate("pgcorral_servers_destroyed_total", POOL + ',reason=~"server_closed|out_of_step"', "reason"),
                "{{reason}}",
            )
        ],
        stacked=True,
    )


def breaker():
    return series(
        "Breaker",
        "1 while arrivals are not let in: PostgreSQL cannot be reached. half_open: one dial finds out.",
        "short",
        ((1, "red"),),
        [
            Query(
                f'max by (upstream, state) (pgcorral_upstream_breaker{{{INSTANCE},state!="closed"}})',
                "{{upstream}} {{state}}",
            )
        ],
        highest=1,
    )


def budget():
    return series(
        "Connections over what PostgreSQL allows",
        "What all pools of all chosen proxies may open, over what PostgreSQL allows ordinary users. Above 1 it refuses some when "
        "all are wanted.",
        "percentunit",
        ((0.9, "orange"), (1.0001, "red")),
        [
            Query(
                f"sum by (upstream) (pgcorral_upstream_limit{{{INSTANCE}}}) / "
                f"max by (upstream) (pgcorral_upstream_max_connections{{{INSTANCE}}})",
                "{{upstream}}",
            )
        ],
    )


def failures():
    failed = rate("pgcorral_dials_total", POOL + ',result!="ok"')
    return series(
        "Dials that fail",
        "Share of the dials that PostgreSQL refused or did not answer; nothing while nobody dials.",
        "percentunit",
        ((0.1, "orange"), (0.33, "red")),
        [Query(f"{failed} / ({rate('pgcorral_dials_total', POOL)} > 0)", "failed")],
        highest=1,
    )
