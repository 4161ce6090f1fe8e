"""A storm of callers with the retries of docs/retry/psycopg.py. README.md here says what is printed."""

import importlib.util
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

SNIPPET = Path(__file__).resolve().parents[3] / "docs" / "retry" / "psycopg.py"
# Not by name: it is called as the driver is.
spec = importlib.util.spec_from_file_location("retry", SNIPPET)
retry = importlib.util.module_from_spec(spec)
spec.loader.exec_module(retry)

CALLERS, TURNS, DEADLINE = 24, 5, 50.0


class Count:
    """What the retries of one caller were."""

    def __init__(self):
        self.retries = self.told = self.honoured = 0

    def __call__(self, error, pause):
        self.retries += 1
        told = re.search(r"retry_after_ms=(\d+)", error.diag.message_detail or str(error))
        if told:
            self.told += 1
            self.honoured += round(pause * 1000) == int(told[1])


def serve(caller, number, count):
    for turn in range(TURNS):
        def work(connection):
            connection.execute("insert into served values (%s, %s)", (number, turn))
            connection.execute("select pg_sleep(0.03)")

        caller.run(work, deadline=DEADLINE, on_retry=count)


def refused(caller):
    """An error that no retry makes good: its SQLSTATE, and how often it was tried again."""
    count = Count()
    try:
        caller.run(lambda connection: connection.execute("selec 1"), deadline=DEADLINE, idempotent=True, on_retry=count)
    except psycopg.Error as error:
        return error.sqlstate, count.retries
    return None, count.retries


def main():
    counts = [Count() for _ in range(CALLERS)]

    def one(number):
        caller = retry.Caller(os.environ["PGDSN"])
        serve(caller, number, counts[number])
        caller.close()

    with ThreadPoolExecutor(CALLERS) as threads:
        list(threads.map(one, range(CALLERS)))
    alone = retry.Caller(os.environ["PGDSN"])
    sqlstate, tried_again = refused(alone)
    alone.close()
    sums = {name: sum(getattr(count, name) for count in counts) for name in ("retries", "told", "honoured")}
    print(json.dumps(sums | {"sqlstate": sqlstate, "tried_again": tried_again}))


if __name__ == "__main__":
    sys.exit(main())
