"""Logins and dialling: both ends at which connections begin, and the process between them."""

from .board import Board
from .panel import NO_THRESHOLDS, series, stat
from .query import INSTANCE, POOL, POOL_LABELS, POOL_LEGEND, RANGE, Query, quantile, quantiles, rate


def board():
    """Everything about the beginning of connections."""
    made = Board(
        "logins",
        "pgcorral / Logins and dialling",
        "Clients that log in to the proxy, server connections that it opens to PostgreSQL, and the process itself.",
        ["instance", "database", "user"],
    )
    made.row("Logins of clients")
    made.line(8, logins(), login_time(), login_phases())
    made.line(8, in_flight(), refused(), rate_limited())
    made.line(8, accepted(), cancels(), certificate())
    made.row("Dialling PostgreSQL")
    made.line(8, dials(), sqlstates(), dial_time())
    made.line(8, dialling(), room(), closed())
    made.row("The process")
    made.line(8, files(), memory(), processor())
    made.line(8, statements(), statement_memory(), spans(), started())
    return made


def logins():
    return series(
        "Logins by result",
        "Logins that ended, in a second. bad_credentials and unknown_database are the clients' mistakes; timeout and abandoned "
        "rise when the proxy or the network is slow.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_logins_total", INSTANCE, "result"), "{{result}}")],
        stacked=True,
    )


def login_time():
    return series(
        "Login time",
        "From accept to ReadyForQuery, of the logins that succeeded.",
        "s",
        ((1, "orange"), (5, "red")),
        quantiles("pgcorral_login_seconds", INSTANCE),
    )


def login_phases():
    return series(
        "Login time by phase, p99",
        "Where the time of logins goes. turn: max_handshakes others are under way. authentication: the client's round trips and "
        "the proof. settings: a server connection had to be asked.",
        "s",
        ((1, "orange"), (5, "red")),
        [Query(quantile(0.99, "pgcorral_login_phase_seconds", INSTANCE, "phase"), "{{phase}}")],
    )


def in_flight():
    return series(
        "Logins under way",
        "Connections that are not logged in yet, and those of them that wait for their turn. Waiting for long: the proxy is "
        "short of processor time, or of turns (max_handshakes).",
        "short",
        ((1000, "orange"),),
        [
            Query(f"sum(pgcorral_handshakes_in_flight{{{INSTANCE}}})", "under way"),
            Query(f"sum(pgcorral_logins_waiting{{{INSTANCE}}})", "of these waiting for their turn"),
        ],
    )


def refused():
    return series(
        "Connections refused, by reason",
        "Connections of clients that a limit or a rule refused, as in the DETAIL of their error.",
        "ops",
        ((1, "red"),),
        [Query(rate("pgcorral_client_connections_refused_total", INSTANCE, "reason"), "{{reason}}")],
        stacked=True,
    )


def rate_limited():
    return series(
        "Over a rate limit",
        "Logins and transactions over a rate limit, by rule; those of a rule that only observes were let through.",
        "ops",
        ((1, "orange"),),
        [Query(rate("pgcorral_rate_limited_total", INSTANCE, "rule, mode"), "{{rule}} ({{mode}})")],
    )


def accepted():
    return series(
        "Connections accepted",
        "Connections of clients in a second, and TLS handshakes with them that failed.",
        "ops",
        NO_THRESHOLDS,
        [
            Query(rate("pgcorral_client_connections_total", INSTANCE), "accepted"),
            Query(rate("pgcorral_client_tls_failures_total", INSTANCE), "TLS failed"),
        ],
    )


def cancels():
    return series(
        "Cancel requests",
        "Cancel requests of clients, by what became of them. Many: clients' own time-outs are shorter than their queries.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_cancels_total", INSTANCE, "result"), "{{result}}")],
        stacked=True,
    )


def certificate():
    return stat(
        "Certificate ends in",
        "Time until the certificate that clients are shown is no longer valid. Empty without client TLS.",
        "s",
        ((None, "red"), (2 * 86400, "orange"), (14 * 86400, "green")),
        Query(f"min(pgcorral_certificate_expiry_seconds{{{INSTANCE}}}) - time()", "ends in"),
        lowest=None,
    )


def dials():
    return series(
        "Dials by result",
        "Attempts to open a server connection, in a second. A warm pool dials only what lifetime and idleness close.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_dials_total", POOL, "result"), "{{result}}")],
        stacked=True,
    )


def sqlstates():
    return series(
        "Refused dials by SQLSTATE",
        "What PostgreSQL refused dials with. 53300: it is full. 28P01: the password is wrong. 57P03: it starts or stops. Zero in "
        "good times.",
        "ops",
        ((0.1, "red"),),
        [
            Query(
                rate("pgcorral_dials_total", POOL + ',result!="ok"', "result, sqlstate"),
                "{{result}} {{sqlstate}}",
            )
        ],
        stacked=True,
    )


def dial_time():
    return series(
        "Dial time",
        "Time to open a server connection: connect, TLS and login at PostgreSQL, successful or not.",
        "s",
        ((0.5, "orange"), (5, "red")),
        quantiles("pgcorral_dial_seconds", POOL),
    )


def dialling():
    return series(
        "Being dialled now",
        "Server connections that are being opened. At max_dials (4) for long: PostgreSQL is slow to let them in.",
        "short",
        ((4, "orange"),),
        [
            Query(
                f'sum by ({POOL_LABELS}) (pgcorral_servers{{{POOL},state="dialling"}})', POOL_LEGEND
            )
        ],
    )


def room():
    return series(
        "Room at PostgreSQL",
        "What the pools may open as configured, what they may open now, and what PostgreSQL allows ordinary users. Budget below "
        "limit: PostgreSQL has refused with 53300. Limit above what it allows: it will.",
        "short",
        NO_THRESHOLDS,
        [
            Query(f"max by (upstream) (pgcorral_upstream_budget{{{INSTANCE}}})", "budget {{upstream}}"),
            Query(f"max by (upstream) (pgcorral_upstream_limit{{{INSTANCE}}})", "limit {{upstream}}"),
            Query(
                f"max by (upstream) (pgcorral_upstream_max_connections{{{INSTANCE}}})",
                "PostgreSQL allows {{upstream}}",
            ),
        ],
    )


def closed():
    return series(
        "Server connections closed, by reason",
        "lifetime and idle are housekeeping. server_closed: PostgreSQL ended it. cancel and client_left: what clients leave "
        "behind.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_servers_destroyed_total", POOL, "reason"), "{{reason}}")],
        stacked=True,
    )


def files():
    return series(
        "File descriptors",
        "Open files over ulimit -n. Each client and each server connection is one; at 1 nobody else gets in.",
        "percentunit",
        ((0.8, "orange"), (0.95, "red")),
        [
            Query(
                f"pgcorral_process_open_files{{{INSTANCE}}} / pgcorral_process_max_files{{{INSTANCE}}}",
                "{{instance}}",
            )
        ],
        highest=1,
    )


def memory():
    return series(
        "Memory",
        "Physical memory, and the part of it that is replies which clients have not taken (max_spool, 64 MiB, bounds it).",
        "bytes",
        NO_THRESHOLDS,
        [
            Query(f"pgcorral_process_resident_memory_bytes{{{INSTANCE}}}", "all {{instance}}"),
            Query(f"pgcorral_spool_bytes{{{INSTANCE}}}", "not taken {{instance}}"),
        ],
    )


def processor():
    return series(
        "Processor time",
        "Cores that the proxy uses. It has as many I/O threads as a quarter of the cores, or as `threads` says.",
        "short",
        NO_THRESHOLDS,
        [Query(f"rate(pgcorral_process_cpu_seconds_total{{{INSTANCE}}}{RANGE})", "{{instance}}")],
    )


def statements():
    return series(
        "Prepared statements known",
        "Prepared statements that the proxy knows, each once. statement_cache_entries (10000) bounds them.",
        "short",
        ((9000, "orange"),),
        [Query(f"pgcorral_statements{{{INSTANCE}}}", "{{instance}}")],
    )


def statement_memory():
    return series(
        "Memory of prepared statements",
        "Bytes of the texts of prepared statements that the proxy or a client knows. statement_cache_size (64 MiB) bounds them.",
        "bytes",
        ((48 * 1024 * 1024, "orange"),),
        [Query(f"pgcorral_statement_bytes{{{INSTANCE}}}", "{{instance}}")],
    )


def spans():
    return series(
        "OpenTelemetry spans",
        "Spans of recorded transactions, in a second; none unless [traces] is set. dropped: the collector is slower than they come; "
        "failed: it could not be asked in time.",
        "ops",
        NO_THRESHOLDS,
        [Query(rate("pgcorral_spans_total", INSTANCE, "result"), "{{result}}")],
        stacked=True,
    )


def started():
    return stat(
        "Up since",
        "When the process that started last was started. Later than expected: it was restarted.",
        "dateTimeFromNow",
        NO_THRESHOLDS,
        Query(f"max(pgcorral_start_time_seconds{{{INSTANCE}}}) * 1000", "started"),
        lowest=None,
    )
