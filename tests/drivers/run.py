#!/usr/bin/env python3
"""Runs every driver of the matrix directly and through the proxy, and compares what they print.

    tests/drivers/run.py DIRECT PROXY_TRANSACTION PROXY_SESSION [--only NAME,…]

The three are URLs (postgres://user:password@host:port/database). PostgreSQL itself is the oracle: with their statement
caches off the drivers must print the same through a pool in transaction mode as directly, and with their caches on the
same through a pool in session mode. Environment:

    PGCORRAL_SKIP_DRIVERS    drivers to leave out (comma separated); a driver that is merely missing is a failure
    PGCORRAL_DRIVERS_DIR     where scripts/setup-drivers.sh put the drivers (default: target/drivers)
    PGCORRAL_RUST_DRIVER     the built example driver_tokio_postgres (default: built with cargo when it is missing)

Exit code: 0 all passed, 1 something differs, 2 wrong usage.
"""

import argparse
import difflib
import json
import os
import signal
import subprocess
import sys
import urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
INSTALLED = Path(os.environ.get("PGCORRAL_DRIVERS_DIR") or ROOT / "target" / "drivers")

# A program needs about three seconds; one that waits for something lost must not stop the rest.
LIMIT_SECONDS = 60

# Characters of a differing value that are shown.
SHOWN = 600


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


class Failed(Exception):
    """The text tells a person what is wrong with this driver."""


def environment(url, cache):
    """What a driver sees: nothing of the caller's own PostgreSQL settings."""
    parts = urllib.parse.urlsplit(url)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    clean |= {
        "PGDSN": url,
        "PGHOST": parts.hostname or "127.0.0.1",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": urllib.parse.unquote(parts.username or ""),
        "PGPASSWORD": urllib.parse.unquote(parts.password or ""),
        "PGDATABASE": urllib.parse.unquote(parts.path.lstrip("/")),
        "PGSSLMODE": "disable",
        "PGCORRAL_CACHE": cache,
        "NODE_PATH": str(INSTALLED / "node" / "node_modules"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "TZ": "UTC",
    }
    return clean


def run(command, url, cache):
    """The lines that one run printed, by check; a run that fails or is incomplete raises Failed."""
    process = subprocess.Popen([str(part) for part in command], env=environment(url, cache), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True)
    late = False
    try:
        output, errors = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
    return parse(output), errors, late, process.returncode


def parse(output):
    results = {}
    for line in output.splitlines():
        try:
            fields = json.loads(line)
            results.setdefault(fields.pop("check"), []).append(fields)
        except (ValueError, KeyError, AttributeError):
            results.setdefault("(not a result)", []).append(line)
    return results


def faults(checks, results, errors, late, code):
    """What is wrong with one run by itself, before it is compared with another."""
    found = [f"{check}: {lines[0]['failed']}" for check, lines in results.items() if "failed" in lines[0]]
    found += [f"{check}: {len(lines)} results" for check, lines in results.items() if len(lines) > 1]
    found += [f"{check}: not a check of checks.txt" for check in results if check not in checks]
    unseen = [check for check in checks if check not in results]
    if unseen:
        found.append(f"no result of {len(unseen)} checks: {' '.join(unseen)}")
    if late:
        found.append(f"not done after {LIMIT_SECONDS} s, killed")
    elif code != 0:
        found.append(f"exit code {code}")
    if found and errors.strip():
        found.append("stderr:\n" + "\n".join("    " + line for line in errors.strip().splitlines()[-25:]))
    return found


def pretty(lines):
    return json.dumps(lines, indent=1, sort_keys=True, ensure_ascii=False).splitlines()


def shorten(line):
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}… ({len(line)} characters)"


def differences(checks, direct, proxied):
    found = []
    for check in checks:
        lines = proxied.get(check, [])
        # What failed by itself or was never reached is said by faults().
        if lines == direct.get(check) or not lines or "failed" in lines[0]:
            continue
        lines = difflib.unified_diff(pretty(direct.get(check, [])), pretty(proxied[check]), "direct", "through the proxy",
                                     lineterm="", n=1)
        found.append(f"{check} differs:\n" + "\n".join("    " + shorten(line) for line in lines))
    return found


def compare(command, checks, direct, proxied, mode, cache):
    """Problems of one driver with one mode of the proxy."""
    first = run(command, direct, cache)
    problems = [f"[directly, cache {cache}] {fault}" for fault in faults(checks, *first)]
    if problems:
        return problems
    second = run(command, proxied, cache)
    problems = faults(checks, *second) + differences(checks, first[0], second[0])
    return [f"[{mode} mode, cache {cache}] {problem}" for problem in problems]


def missing(command):
    for part in command:
        if isinstance(part, Path) and not part.exists():
            return part
    return None


def test(name, checks, direct, transaction, session):
    try:
        command = DRIVERS[name]()
    except (OSError, subprocess.CalledProcessError) as error:
        return [f"cannot be built: {error}"]
    absent = missing(command)
    if absent:
        return [f"{absent} is missing: run scripts/setup-drivers.sh, or list {name} in PGCORRAL_SKIP_DRIVERS"]
    try:
        return (compare(command, checks, direct, transaction, "transaction", "off")
                + compare(command, checks, direct, session, "session", "on"))
    except OSError as error:
        return [f"cannot be run: {error}"]


def named(text, parser):
    names = [name for name in (text or "").replace(" ", ",").split(",") if name]
    for name in names:
        if name not in DRIVERS:
            parser.error(f"no driver {name}; there are {', '.join(DRIVERS)}")
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("direct")
    parser.add_argument("transaction")
    parser.add_argument("session")
    parser.add_argument("--only", help="these drivers only, comma separated")
    arguments = parser.parse_args()
    skipped = named(os.environ.get("PGCORRAL_SKIP_DRIVERS"), parser)
    chosen = named(arguments.only, parser) or list(DRIVERS)
    checks = (HERE / "checks.txt").read_text().split()

    counts = {"passed": 0, "failed": 0}
    for name in chosen:
        if name in skipped:
            print(f"skip  {name} (PGCORRAL_SKIP_DRIVERS)", flush=True)
            continue
        problems = test(name, checks, arguments.direct, arguments.transaction, arguments.session)
        counts["failed" if problems else "passed"] += 1
        print(f"FAIL  {name}" if problems else f"ok    {name}", flush=True)
        for problem in problems:
            print("  " + problem.replace("\n", "\n  "), flush=True)
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
