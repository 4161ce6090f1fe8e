"""A function on AWS Lambda that uses PostgreSQL through pgcorral, with psycopg 3.

The connection is kept in the module: an instance opens it in its first invocation and finds it again in the next. The
script of the event runs in one transaction, because that is what the proxy lends a server connection for.
"""

import os
import re
import time

import psycopg

connection = None


def connect():
    """The instance's connection, opened anew if there is none or the driver knows that it is lost."""
    global connection
    if connection is None or connection.closed:
        connection = None
        connection = psycopg.connect(
            os.environ["DATABASE_URL"],
            # The proxy's metrics and queues tell functions apart by this name.
            application_name=os.environ["AWS_LAMBDA_FUNCTION_NAME"],
            # A named prepared statement would belong to one server connection; the next transaction may have another.
            prepare_threshold=None,
            # Transactions begin and end where this file says so.
            autocommit=True,
        )
    return connection


def begin():
    kept = connect()
    try:
        kept.execute("begin")
    except psycopg.OperationalError:
        if not kept.closed:
            raise
        # Lost while the instance was suspended, which shows only now. Nothing has run yet, so this is safe to repeat.
        connect().execute("begin")


def transaction(script):
    begin()
    try:
        rows = sum(max(connection.execute(statement).rowcount, 0) for statement in script)
        connection.execute("commit")
        return rows
    except psycopg.Error:
        if not connection.closed:
            connection.rollback()
        raise


def retry_after(error):
    """Seconds to wait before it is worth trying again, if the proxy refused the transaction and said so."""
    found = re.search(r"\bretry_after_ms=(\d+)", error.diag.message_detail or "")
    return int(found[1]) / 1000 if found else None


def handler(event, context):
    try:
        return {"rows": transaction(event["script"]), "attempts": 1}
    except psycopg.Error as error:
        # A refusal with retry_after_ms comes before anything has run. Waiting as long as it says, once, gets most
        # callers through a burst; retrying at once, or many times, is what makes a burst an outage.
        pause = retry_after(error)
        if not event.get("retry", True) or pause is None:
            raise
        if pause * 1000 >= context.get_remaining_time_in_millis():
            raise
    time.sleep(pause)
    return {"rows": transaction(event["script"]), "attempts": 2}
