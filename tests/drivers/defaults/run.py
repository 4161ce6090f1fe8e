#!/usr/bin/env python3
"""Runs drivers and ORMs with their own defaults, directly and through the proxy, and compares what they print.

    tests/drivers/defaults/run.py DIRECT PROXY [--only NAME,…]

The two are URLs (postgres://user:password@host:port/database); the proxy's is a pool of 2 in transaction mode, with a
query_wait_timeout of a minute. Environment:

    PGCORRAL_SKIP_DRIVERS    programs to leave out (comma separated); one that is merely missing is a failure
    PGCORRAL_DRIVERS_DIR     where scripts/setup-drivers.sh put them (default: target/drivers)

Exit code: 0 all passed, 1 something differs, 2 wrong usage.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from compare import INSTALLED, Run, differences, run_all  # noqa: E402 (what the matrices share)

# The program is frozen in the middle of what follows these.
FREEZE_AFTER = ["connect", "savepoint_error"]


def python_program(name, *arguments):
    return [INSTALLED / "venv" / "bin" / "python", HERE / "python" / f"default_{name}.py", *arguments]


def node_program(name):
    return ["node", HERE / "node" / f"default_{name}.js"]


def rust_program(name):
    return [INSTALLED / "bin" / f"default_{name}"]


# Debian's jar.
JDBC = Path("/usr/share/java/postgresql.jar")

# Name, and the command whose every part must be there.
PROGRAMS = {
    "psycopg": lambda: python_program("psycopg"),
    "asyncpg": lambda: python_program("asyncpg"),
    "sqlalchemy-null": lambda: python_program("sqlalchemy", "NullPool"),
    "sqlalchemy-queue": lambda: python_program("sqlalchemy", "QueuePool"),
    "django": lambda: python_program("django"),
    "node-postgres": lambda: node_program("node_postgres"),
    "postgres-js": lambda: node_program("postgres_js"),
    "drizzle": lambda: node_program("drizzle"),
    "knex": lambda: node_program("knex"),
    "lib-pq": lambda: [INSTALLED / "bin" / "default_lib_pq"],
    "pgx": lambda: [INSTALLED / "bin" / "default_pgx"],
    "pgjdbc": lambda: ["java", "-cp", f"{INSTALLED / 'java'}:{JDBC}", "DefaultPgjdbc"],
    "tokio-postgres": lambda: rust_program("tokio_postgres"),
    "sqlx": lambda: rust_program("sqlx"),
    "diesel": lambda: rust_program("diesel"),
}


def compare(command, checks, direct, proxy):
    """Problems of one program."""
    oracle = Run(command, direct, PGCORRAL_CACHE="on")
    faults = oracle.faults(checks)
    if faults:
        return [f"[directly] {fault}" for fault in faults]
    proxied = Run(command, proxy, FREEZE_AFTER, PGCORRAL_CACHE="on")
    return proxied.faults(checks) + differences(checks, oracle, proxied)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("direct")
    parser.add_argument("proxy")
    parser.add_argument("--only", help="these programs only, comma separated")
    arguments = parser.parse_args()
    checks = (HERE / "checks.txt").read_text().split()
    return run_all(parser, PROGRAMS, arguments.only, lambda command: compare(command, checks, arguments.direct, arguments.proxy))


if __name__ == "__main__":
    sys.exit(main())
