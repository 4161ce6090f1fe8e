"""Overview: is it saturated, who is it, what is refused. One screen, without scrolling."""

from . import link
from .board import Board
from .panel import NO_THRESHOLDS, series, stat, table
from .query import FUNCTION, INSTANCE, POOL, POOL_LABELS, POOL_LEGEND, RANGE, Query, quantiles, rate


def board():
    """The dashboard that is opened first."""
    made = Board(
        "overview",
        "pgcorral / Overview",
        "Is it saturated, who is it, and what is refused. Read it from left to right and from top to bottom.",
        ["instance", "database", "user", "function"],
    )
    made.line(3, *numbers())
    made.line(9, utilisation(), connection_time(), refused())
    made.line(9, waits(), clients(), functions())
    return made


def numbers():
    """One line of numbers, each of which is green in quiet times."""
    worst = f"max(pgcorral_pool_utilisation{{{POOL}}})"
    ratio = f"max(pgcorral_pool_collapse_ratio{{{POOL}}})"
    share = (
        f"sum(rate(pgcorral_sheds_total{{{POOL}}}{RANGE})) / "
        f"(sum(rate(pgcorral_sheds_total{{{POOL}}}{RANGE})) + "
        f"sum(rate(pgcorral_transactions_total{{{POOL}}}{RANGE})) > 0)"
    )
    return [
        stat(
            "Ready",
            "Proxies that say yes at /readyz, of all that Prometheus knows. Below 1, a proxy drains, has no usable server, "
            "or does not answer.",
            "percentunit",
            ((None, "red"), (0.999, "green")),
            Query(
                f"count(pgcorral_ready{{{INSTANCE}}} == 1) / count(up{{job=\"pgcorral\",{INSTANCE}}}) or vector(0)", "ready"
            ),
            highest=1,
        ),
        stat(
            "Fullest pool",
            "Share of its limit that the fullest pool uses, mean of the last 10 s. At 1 every server connection is busy and "
            "arrivals wait.",
            "percentunit",
            ((0.8, "orange"), (0.95, "red")),
            Query(worst, "utilisation"),
            highest=1,
        ),
        stat(
            "Collapse ratio",
            "What the clients ask for over what the fullest pool can do. Above 1 a plain queue would only grow, and the guard "
            "has to refuse.",
            "none",
            ((0.7, "orange"), (1, "red")),
            Query(ratio, "collapse ratio"),
            decimals=2,
        ),
        stat(
            "Waiting",
            "Clients that wait for a server connection now. A burst that is served within seconds is no harm; see how long "
            "they wait beside it.",
            "short",
            ((1, "yellow"), (100, "orange")),
            Query(f"sum(pgcorral_queue_depth{{{POOL}}})", "waiting"),
        ),
        stat(
            "Queue standing",
            "For how long the queue of some function has not been empty. Longer than query_wait_timeout (1.5 s) is no burst; with "
            "a collapse ratio above 1 it is an overload.",
            "s",
            ((1.5, "orange"), (6.5, "red")),
            Query(f"max(pgcorral_queue_standing_seconds{{{POOL}}})", "standing"),
        ),
        stat(
            "Refused",
            "Share of the transactions that were refused instead of served.",
            "percentunit",
            ((0.001, "orange"), (0.05, "red")),
            Query(share, "refused"),
            highest=1,
        ),
        stat(
            "Transactions",
            "Transactions finished in a second: what gets done.",
            "ops",
            NO_THRESHOLDS,
            Query(rate("pgcorral_transactions_total", POOL), "transactions"),
        ),
        stat(
            "Servers down",
            "PostgreSQL servers whose breaker is not closed: all dials have failed for 3 s, and clients are refused at once.",
            "short",
            ((1, "red"),),
            Query(f'sum(1 - pgcorral_upstream_breaker{{{INSTANCE},state="closed"}})', "down"),
        ),
    ]


def utilisation():
    """Is it saturated?"""
    return series(
        "Is it saturated? Utilisation of pools",
        "Share of its limit that each pool uses, mean of the last 10 s. A pool at 1 with a queue is the bottleneck; a pool "
        "below it with slow transactions is not, look at Database health then.",
        "percentunit",
        ((0.8, "orange"), (0.95, "red")),
        [Query(f"max by ({POOL_LABELS}) (pgcorral_pool_utilisation{{{POOL}}})", POOL_LEGEND)],
        highest=1,
        links=[link.pool()],
    )


def connection_time():
    """Who is it?"""
    return series(
        "Who is it? Connection time by function",
        "Server connections that each function holds, on the average. Who has the largest area uses the pool up; compare with "
        "its transactions in the table below.",
        "short",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_function_held_seconds_total", FUNCTION, "function"), "{{function}}")],
        stacked=True,
        links=[link.function()],
    )


def refused():
    """What is refused?"""
    return series(
        "What is refused? Refusals by reason",
        "Transactions (by the reason in their error's DETAIL) and logins that were refused in a second. docs/overload.md says "
        "what each reason means.",
        "ops",
        ((1, "red"),),
        [
            Query(rate("pgcorral_sheds_total", POOL, "reason"), "{{reason}}"),
            Query(rate("pgcorral_client_connections_refused_total", INSTANCE, "reason"), "login: {{reason}}"),
        ],
        stacked=True,
    )


def waits():
    """How bad it is for those who are served, too."""
    return series(
        "Waits for a server connection",
        "How long transactions waited, whatever became of them. Click for the traces of slow ones.",
        "s",
        ((0.5, "orange"), (1.5, "red")),
        quantiles("pgcorral_wait_seconds", POOL),
        links=[link.slow_waits(500)],
    )


def clients():
    """Whether there is a stampede at all."""
    return series(
        "Clients by state",
        "Clients of the whole proxy. Idle ones cost next to nothing; a jump of those that log in or wait is a stampede.",
        "short",
        NO_THRESHOLDS,
        [Query(f"sum by (state) (pgcorral_clients{{{INSTANCE}}})", "{{state}}")],
        stacked=True,
    )


def functions():
    """The same question as numbers."""
    return table(
        "Functions now",
        "Each function's server connections, waiting clients, transactions and refusals. Many connections for few transactions: "
        "it is slow, or it holds them idle.",
        "short",
        NO_THRESHOLDS,
        [
            ("Connections", "short", rate("pgcorral_function_held_seconds_total", FUNCTION, "function")),
            ("Waiting", "short", f"sum by (function) (pgcorral_function_waiting{{{FUNCTION}}})"),
            ("Transactions", "ops", rate("pgcorral_function_transactions_total", FUNCTION, "function")),
            ("Refused", "ops", rate("pgcorral_function_sheds_total", FUNCTION, "function")),
        ],
        ["function"],
        "Connections",
    )
