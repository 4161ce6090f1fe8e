#!/usr/bin/env python3
"""Runs every driver of the matrix directly and through the proxy, and compares what they print.

    tests/drivers/run.py DIRECT PROXY_TRANSACTION PROXY_SESSION [--only NAME,…]

The three are URLs (postgres://user:password@host:port/database). PostgreSQL itself is the oracle: through a pool in
transaction mode the drivers must print the same as directly, with their statement caches off and with them on, and
through a pool in session mode with them on. Environment:

    PGCORRAL_SKIP_DRIVERS    drivers to leave out (comma separated); a driver that is merely missing is a failure
    PGCORRAL_DRIVERS_DIR     where scripts/setup-drivers.sh put the drivers (default: target/drivers)
    PGCORRAL_RUST_DRIVER     the built example driver_tokio_postgres (default: built with cargo when it is missing)

Exit code: 0 all passed, 1 something differs, 2 wrong usage.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from compare import HERE, INSTALLED, ROOT, Run, differences, run_all


def rust_driver():
    """The cargo example; `cargo test` has built it before the tests run."""
    given = os.environ.get("PGCORRAL_RUST_DRIVER")
    if given:
        return Path(given)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    built = target / "debug" / "examples" / "driver_tokio_postgres"
    source = HERE / "rust" / "driver_tokio_postgres.rs"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        cargo = os.environ.get("CARGO", "cargo")
        subprocess.run([cargo, "build", "--quiet", "--example", "driver_tokio_postgres"], cwd=ROOT, check=True)
    return built


def python_program(name):
    return [INSTALLED / "venv" / "bin" / "python", HERE / "python" / f"driver_{name}.py"]


def node_program(name):
    return ["node", HERE / "node" / f"driver_{name}.js"]


# Name, and the command whose every part must be there.
DRIVERS = {
    "tokio-postgres": lambda: [rust_driver()],
    "psycopg": lambda: python_program("psycopg"),
    "asyncpg": lambda: python_program("asyncpg"),
    "node-postgres": lambda: node_program("node_postgres"),
    "postgres-js": lambda: node_program("postgres_js"),
    "lib-pq": lambda: [INSTALLED / "bin" / "driver_lib_pq"],
    "pgx": lambda: [INSTALLED / "bin" / "driver_pgx"],
}


def compare(command, checks, direct, caches):
    """Problems of one driver. `caches` has the proxy's URLs by setting of the cache and mode; directly it runs once for each
    setting."""
    problems = []
    for cache, modes in caches.items():
        oracle = Run(command, direct, PGCORRAL_CACHE=cache)
        faults = oracle.faults(checks)
        problems += [f"[directly, cache {cache}] {fault}" for fault in faults]
        for mode, url in modes.items() if not faults else ():
            proxied = Run(command, url, PGCORRAL_CACHE=cache)
            found = proxied.faults(checks) + differences(checks, oracle, proxied)
            problems += [f"[{mode} mode, cache {cache}] {problem}" for problem in found]
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("direct")
    parser.add_argument("transaction")
    parser.add_argument("session")
    parser.add_argument("--only", help="these drivers only, comma separated")
    arguments = parser.parse_args()
    checks = (HERE / "checks.txt").read_text().split()
    transaction = {"transaction": arguments.transaction}
    caches = {"off": transaction, "on": transaction | {"session": arguments.session}}
    return run_all(parser, DRIVERS, arguments.only, lambda command: compare(command, checks, arguments.direct, caches))


if __name__ == "__main__":
    sys.exit(main())
