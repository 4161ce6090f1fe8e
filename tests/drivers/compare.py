"""What the runners of the driver matrices share: a program is run directly and through the proxy, and what it prints is
compared. PostgreSQL itself is the oracle; no expected results are kept.

A program prints one JSON line per check: {"check": NAME, "result": …}, or "skipped" or "failed" with a text.
"""

import json
import os
import signal
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
INSTALLED = Path(os.environ.get("PGCORRAL_DRIVERS_DIR") or ROOT / "target" / "drivers")

# A program needs a few seconds; one that waits for something lost must not stop the rest.
LIMIT_SECONDS = 60

# Characters of a differing value that are shown, and places of one check that differ.
SHOWN = 300
SHOWN_PLACES = 12

# How long a frozen program stays frozen, and how far into the next check that begins: some of its clients then wait between
# two invocations, some are within a transaction.
FROZEN_SECONDS = 0.3
UNTIL_FROZEN_SECONDS = 0.06


def environment(url, **more):
    """What a program sees: nothing of the caller's own PostgreSQL settings."""
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
        "NODE_PATH": str(INSTALLED / "node" / "node_modules"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "TZ": "UTC",
    }
    return clean | more


class Run:
    """One run of a program: the lines that it printed, by check, and how it ended."""

    def __init__(self, command, url, freeze_after=(), **more):
        self.results, self.errors, self.late = {}, "", False
        self.freeze_after = set(freeze_after)
        self.process = subprocess.Popen([str(part) for part in command], env=environment(url, **more),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        encoding="utf-8", start_new_session=True)
        readers = [threading.Thread(target=read) for read in (self.read_lines, self.read_errors)]
        for reader in readers:
            reader.start()
        try:
            self.process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.late = True
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for reader in readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def read_lines(self):
        for line in self.process.stdout:
            check = self.take(line.rstrip("\n"))
            if check in self.freeze_after:
                self.freeze_after.remove(check)
                self.freeze()

    def read_errors(self):
        self.errors = self.process.stderr.read()

    def take(self, line):
        try:
            fields = json.loads(line)
            check = fields.pop("check")
            self.results.setdefault(check, []).append(fields)
            return check
        except (ValueError, KeyError, AttributeError):
            self.results.setdefault("(not a result)", []).append(line)
            return None

    def freeze(self):
        """Stops all of the program for a while, as the platform of a function does between two invocations."""
        time.sleep(UNTIL_FROZEN_SECONDS)
        for stop, seconds in ((signal.SIGSTOP, FROZEN_SECONDS), (signal.SIGCONT, 0)):
            try:
                os.killpg(self.process.pid, stop)
            except ProcessLookupError:
                return
            time.sleep(seconds)

    def faults(self, checks):
        """What is wrong with this run by itself, before it is compared with another."""
        failed = {check: lines[0]["failed"] for check, lines in self.results.items() if "failed" in lines[0]}
        found = [f"{check}: {why}" for check, why in failed.items()]
        found += [f"{check}: {len(lines)} results" for check, lines in self.results.items() if len(lines) > 1]
        found += [f"{check}: not a check of checks.txt" for check in self.results if check not in checks]
        unseen = [check for check in checks if check not in self.results]
        if unseen:
            found.append(f"no result of {len(unseen)} checks: {' '.join(unseen)}")
        if self.late:
            found.append(f"not done after {LIMIT_SECONDS} s, killed")
        elif self.process.returncode != 0:
            found.append(f"exit code {self.process.returncode}")
        if found and self.errors.strip():
            found.append("stderr:\n" + "\n".join("    " + line for line in self.errors.strip().splitlines()[-25:]))
        return found


def shorten(value):
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def deviations(expected, found, place=""):
    """Where two results differ, as (place, expected, found): as deep as their shapes are the same."""
    if expected == found:
        return
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for at, pair in enumerate(zip(expected, found)):
            yield from deviations(*pair, f"{place}[{at}]")
    elif isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        for key in expected:
            yield from deviations(expected[key], found[key], f"{place}.{key}")
    else:
        yield place, expected, found


def differences(checks, direct, proxied):
    """The checks that came out differently, as far as they came out at all: the rest is said by faults()."""
    found = []
    for check in checks:
        lines = proxied.results.get(check, [])
        if not lines or "failed" in lines[0]:
            continue
        differ = list(deviations(direct.results.get(check, [{}])[0], lines[0]))
        shown = [f"    {place.lstrip('.')}: {shorten(expected)} directly, {shorten(seen)} through the proxy"
                 for place, expected, seen in differ[:SHOWN_PLACES]]
        if len(differ) > SHOWN_PLACES:
            shown.append(f"    … and {len(differ) - SHOWN_PLACES} places more")
        if differ:
            found.append(f"{check} differs:\n" + "\n".join(shown))
    return found


def missing(command):
    """The first part of a command that should be there and is not."""
    return next((part for part in command if isinstance(part, Path) and not part.exists()), None)


def program(name, build, test):
    """The problems of one program, whose command `build` gives and which `test` runs."""
    try:
        command = build()
    except (OSError, subprocess.CalledProcessError) as error:
        return [f"cannot be built: {error}"]
    absent = missing(command)
    if absent:
        return [f"{absent} is missing: run scripts/setup-drivers.sh, or list {name} in PGCORRAL_SKIP_DRIVERS"]
    try:
        return test(command)
    except OSError as error:
        return [f"cannot be run: {error}"]


def names(text):
    return [name for name in (text or "").replace(" ", ",").split(",") if name]


def run_all(parser, programs, only, test):
    """Runs the programs (name → command), prints a line for each and returns the exit code."""
    # The list of what is skipped is for all matrices, so it may name what this one does not have.
    skipped, chosen = names(os.environ.get("PGCORRAL_SKIP_DRIVERS")), names(only)
    for name in chosen:
        if name not in programs:
            parser.error(f"no driver {name}; there are {', '.join(programs)}")
    counts = {"passed": 0, "failed": 0}
    for name in chosen or programs:
        if name in skipped:
            print(f"skip  {name} (PGCORRAL_SKIP_DRIVERS)", flush=True)
            continue
        began = time.monotonic()
        problems = program(name, programs[name], test)
        counts["failed" if problems else "passed"] += 1
        print(f"{'FAIL' if problems else 'ok  '}  {name} ({time.monotonic() - began:.1f} s)", flush=True)
        for problem in problems:
            print("  " + problem.replace("\n", "\n  "), flush=True)
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0
