"""What Lambda's runtime does around handler.py: one event per line on standard input, one answer per line on standard
output. It ends when standard input does. Whatever the handler prints goes to standard error.
"""

import json
import os
import sys
import time

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

import psycopg  # noqa: E402  after standard output is out of the way

connects = []
started = time.monotonic()


def timed(connect):
    """The same, taking notes: a handler should not have to say when it connects."""

    def noting(*arguments, **settings):
        begun = time.monotonic()
        note = {"after_us": int((begun - started) * 1e6), "ok": False}
        connects.append(note)
        try:
            made = connect(*arguments, **settings)
            note["ok"] = True
            return made
        except psycopg.Error as error:
            error.at_connect = True
            raise
        finally:
            note["took_us"] = int((time.monotonic() - begun) * 1e6)

    return noting


psycopg.connect = timed(psycopg.connect)

import handler  # noqa: E402  it has to find psycopg as it is now


class Context:
    def __init__(self, remaining_ms):
        self.deadline = started + remaining_ms / 1000

    def get_remaining_time_in_millis(self):
        return max(0, int((self.deadline - time.monotonic()) * 1000))


def failure(error):
    told = {"ok": False, "message": str(error), "connect": getattr(error, "at_connect", False)}
    if isinstance(error, psycopg.Error):
        # psycopg has no diagnosis of a refused login, only libpq's text of it; the SQLSTATE is in the object all the same.
        told["sqlstate"] = error.sqlstate
        told["message"] = error.diag.message_primary or str(error)
        told["detail"] = error.diag.message_detail
    else:
        told["bug"] = type(error).__name__
    return told


def invoke(line):
    global started
    started = time.monotonic()
    connects.clear()
    envelope = json.loads(line)
    try:
        answer = {"ok": True, **handler.handler(envelope["event"], Context(envelope["remaining_ms"]))}
    except Exception as error:
        answer = failure(error)
    return {**answer, "connects": connects[:16]}


def say(answer):
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


say({"init": True})
for line in sys.stdin:
    say(invoke(line))
