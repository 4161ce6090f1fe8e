"""What the Python programs of the matrix share: where to connect, and one JSON line per check.

A program is a list of (name, function). A function returns its result; an exception makes the check, and so the
whole program, fail. Results hold nothing that differs from run to run (no pids, times or OIDs).
"""

import hashlib
import json
import os
import traceback

HOST = os.environ["PGHOST"]
PORT = int(os.environ["PGPORT"])
USER = os.environ["PGUSER"]
PASSWORD = os.environ["PGPASSWORD"]
DATABASE = os.environ["PGDATABASE"]

# Prepared statements that outlive a transaction: only where one server connection belongs to one client.
CACHE = os.environ["PGCORRAL_CACHE"] == "on"

# PostgreSQL 15 reports these at login; "server_version" is last because it is the longest.
REPORTED = [
    "application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "in_hot_standby",
    "integer_datetimes", "IntervalStyle", "is_superuser", "server_encoding", "session_authorization",
    "standard_conforming_strings", "TimeZone", "server_version",
]

SHOWN = ["client_encoding", "TimeZone", "DateStyle", "IntervalStyle", "standard_conforming_strings", "application_name"]

SERIES = "select g, repeat(md5(g::text), 32) from generate_series(1, 10000) g order by g"


class Skip(Exception):
    """The driver cannot do this; the text says why."""


def digest(value):
    """Length and hash of a value too big to print."""
    data = value.encode() if isinstance(value, str) else bytes(value)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def emit(line):
    print(json.dumps(line, sort_keys=True, ensure_ascii=False), flush=True)


def perform(name, check):
    """Prints the line of one check; false if it failed."""
    try:
        emit({"check": name, "result": check()})
    except Skip as reason:
        emit({"check": name, "skipped": str(reason)})
    except Exception as error:
        traceback.print_exc()
        emit({"check": name, "failed": f"{type(error).__name__}: {error}"})
        return False
    return True
