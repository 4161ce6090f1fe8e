"""Retries for psycopg 3 behind pgcorral: keep one Caller per thread, and hand it transactions."""

import random
import re
import time

import psycopg

# Refused before anything has taken effect, by pgcorral or by PostgreSQL itself.
REFUSED = {"53300", "53400", "57P03", "08001"}
# Pauses without advice: at most this long at first, twice as long each time, and never longer than the last.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class Caller:
    def __init__(self, dsn):
        self.dsn = dsn
        self.connection = None

    def run(self, work, deadline=30.0, idempotent=False, on_retry=lambda error, pause: None):
        """Runs work(connection) in a transaction. Gives up after `deadline` seconds, with the last error.

        A transaction that was lost together with its server is tried again only if it is idempotent: it may have
        been committed."""
        give_up = time.monotonic() + deadline
        attempt = 0
        while True:
            connecting = self.connection is None or self.connection.closed
            try:
                if connecting:
                    self.connection = None
                    self.connection = psycopg.connect(self.dsn)
                    connecting = False
                return self.transaction(work)
            except psycopg.Error as error:
                pause = pause_after(error, attempt, connecting or idempotent)
                # Not for an error of the transaction: only a connection that is gone is opened again.
                if pause is None or time.monotonic() + pause >= give_up:
                    raise
                on_retry(error, pause)
            attempt += 1
            time.sleep(pause)

    def transaction(self, work):
        # Not connection.transaction(): behind a refused BEGIN it sends a ROLLBACK, which waits and is refused as well.
        try:
            result = work(self.connection)
            self.connection.commit()
            return result
        except BaseException:
            # Nothing is sent if no transaction was begun.
            if not self.connection.closed:
                self.connection.rollback()
            raise

    def close(self):
        if self.connection:
            self.connection.close()


def pause_after(error, attempt, may_run_twice):
    """Seconds until the next attempt; None if there must not be one."""
    # libpq has no fields of a refused login, only its text.
    text = error.diag.message_detail or str(error)
    told = re.search(r"\bretry_after_ms=(\d+)", text)
    if told:
        return int(told[1]) / 1000
    # Without a SQLSTATE there was no answer, unless it was that of a login, which begins with FATAL.
    lost = error.sqlstate == "08006" or error.sqlstate is None and "FATAL:" not in text
    lost = lost and isinstance(error, psycopg.OperationalError)
    if error.sqlstate not in REFUSED and not (lost and may_run_twice):
        return None
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt))
