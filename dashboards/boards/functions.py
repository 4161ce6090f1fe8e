"""Functions: who holds the server connections, who waits, who is refused, and whether it is shared out fairly."""

from . import link
from .board import Board
from .panel import NO_THRESHOLDS, series, table
from .query import FUNCTION, FUNCTION_LABELS, FUNCTION_LEGEND, Query, rate

HELD = rate("pgcorral_function_held_seconds_total", FUNCTION, FUNCTION_LABELS)
WAITED = rate("pgcorral_function_wait_seconds_total", FUNCTION, FUNCTION_LABELS)
DONE = rate("pgcorral_function_transactions_total", FUNCTION, FUNCTION_LABELS)
REFUSED = rate("pgcorral_function_sheds_total", FUNCTION, FUNCTION_LABELS)


def board():
    """Everything about functions."""
    made = Board(
        "functions",
        "pgcorral / Functions",
        "Who holds the server connections, who waits, who is refused. The 50 functions of a pool with most connection-time are "
        "told apart, the others together.",
        ["instance", "database", "user", "function"],
    )
    made.row("Who uses the pool")
    made.line(9, held(), share(), servers())
    made.row("Who gets what it wants")
    made.line(9, transactions(), refused(), refused_share())
    made.row("How long it takes")
    made.line(9, waiting(), mean_wait(), mean_hold())
    made.line(10, functions())
    return made


def held():
    return series(
        "Connection time",
        "Server connections that each function holds, on the average. This is what the guard shares out.",
        "short",
        NO_THRESHOLDS,
        [Query(HELD, FUNCTION_LEGEND)],
        stacked=True,
    )


def share():
    pool = rate("pgcorral_function_held_seconds_total", FUNCTION, "database, user")
    return series(
        "Share of connection time",
        "Each function's part of what all chosen functions of its pool hold. In an overload functions of the same weight come "
        "to the same share.",
        "percentunit",
        NO_THRESHOLDS,
        [Query(f"{HELD} / on (database, user) group_left () ({pool} > 0)", FUNCTION_LEGEND)],
        highest=1,
    )


def servers():
    return series(
        "Server connections held now",
        "Server connections that each function holds at the moment of the scrape.",
        "short",
        NO_THRESHOLDS,
        [
            Query(
                f"sum by ({FUNCTION_LABELS}) (pgcorral_function_servers{{{FUNCTION}}})", FUNCTION_LEGEND
            )
        ],
        stacked=True,
    )


def transactions():
    return series(
        "Transactions (goodput)",
        "Transactions of each function that were admitted and ended, in a second.",
        "ops",
        NO_THRESHOLDS,
        [Query(DONE, FUNCTION_LEGEND)],
        stacked=True,
    )


def refused():
    return series(
        "Refused",
        "Transactions of each function that were not admitted, in a second.",
        "ops",
        ((1, "red"),),
        [Query(REFUSED, FUNCTION_LEGEND)],
        stacked=True,
    )


def refused_share():
    return series(
        "Refused, as a share",
        "Refused over all transactions of the function. A function that asks for more than its share is refused more; one that "
        "asks for less should not be refused at all.",
        "percentunit",
        ((0.01, "orange"), (0.5, "red")),
        [Query(f"{REFUSED} / ({REFUSED} + {DONE} > 0)", FUNCTION_LEGEND)],
        highest=1,
    )


def waiting():
    return series(
        "Waiting now",
        "Clients of each function that wait for a server connection.",
        "short",
        ((100, "orange"),),
        [
            Query(
                f"sum by ({FUNCTION_LABELS}) (pgcorral_function_waiting{{{FUNCTION}}})", FUNCTION_LEGEND
            )
        ],
        stacked=True,
    )


def mean_wait():
    return series(
        "Mean wait of those admitted",
        "Waiting time over transactions, of those that were admitted. Click for the traces of slow ones.",
        "s",
        ((0.5, "orange"), (1.5, "red")),
        [Query(f"{WAITED} / ({DONE} > 0)", FUNCTION_LEGEND)],
        links=[link.slow_waits(500, link.FUNCTION)],
    )


def mean_hold():
    return series(
        "Mean hold of a transaction",
        "Connection time over transactions. The function with the longest is the one to make faster, or to give fewer "
        "connections (max_share).",
        "s",
        ((1, "orange"), (10, "red")),
        [Query(f"{HELD} / ({DONE} > 0)", FUNCTION_LEGEND)],
        links=[link.slow_spans("1s", link.FUNCTION)],
    )


def functions():
    return table(
        "Functions now",
        "All of it as numbers, who holds most first.",
        "short",
        NO_THRESHOLDS,
        [
            ("Connections", "short", HELD),
            ("Waiting", "short", f"sum by ({FUNCTION_LABELS}) (pgcorral_function_waiting{{{FUNCTION}}})"),
            ("Transactions", "ops", DONE),
            ("Refused", "ops", REFUSED),
            ("Mean wait", "s", f"{WAITED} / ({DONE} > 0)"),
            ("Mean hold", "s", f"{HELD} / ({DONE} > 0)"),
        ],
        ["database", "user", "function"],
        "Connections",
    )
