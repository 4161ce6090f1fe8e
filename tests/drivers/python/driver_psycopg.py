"""psycopg 3: libpq underneath, so this also stands for every other program built on libpq."""

import datetime as dt
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Thread
from time import monotonic, sleep

import psycopg
from psycopg import sql
from psycopg.types.json import Json, Jsonb

from matrix import CACHE, DATABASE, HOST, PASSWORD, PORT, REPORTED, SERIES, SHOWN, USER, digest, perform

TABLE = "matrix_psycopg"


def connect(**settings):
    wanted = {"host": HOST, "port": PORT, "user": USER, "password": PASSWORD, "dbname": DATABASE,
              "application_name": "matrix psycopg", "autocommit": True} | settings
    connection = psycopg.connect(**wanted)
    connection.prepare_threshold = 1 if CACHE else None
    return connection


def refusal(error):
    diagnosis = error.diag
    fields = {"sqlstate": error.sqlstate, "severity": diagnosis.severity_nonlocalized, "message": diagnosis.message_primary,
              "detail": diagnosis.message_detail, "hint": diagnosis.message_hint, "position": diagnosis.statement_position,
              "constraint": diagnosis.constraint_name, "context": diagnosis.context}
    return {key: value for key, value in fields.items() if value}


def attempt(connection, query, *arguments):
    try:
        connection.execute(query, *arguments)
    except psycopg.Error as error:
        return refusal(error)
    return "no error"


def one(connection, query, *arguments):
    return connection.execute(query, *arguments).fetchone()[0]


def fresh(connection):
    connection.execute(f"delete from {TABLE}")
    return connection


def check_connect():
    with connect() as connection:
        plain = [one(connection, "select 1"), one(connection, "select current_user::text"),
                 one(connection, "select current_database()::text")]
    # Asks for protocol 3.2, which an older server negotiates down.
    with connect(max_protocol_version="latest") as connection:
        return plain + [one(connection, "select 'newest protocol'")]


def check_parameters():
    with connect() as connection:
        return {name: connection.info.parameter_status(name) for name in REPORTED}


def check_show():
    with connect() as connection:
        return {name: one(connection, f"show {name}") for name in SHOWN}


def check_startup_parameters():
    options = "-c TimeZone=Asia/Tokyo -c DateStyle=German -c statement_timeout=54321 -c search_path=pg_catalog,public"
    with connect(options=options) as connection:
        names = ["TimeZone", "DateStyle", "statement_timeout", "search_path"]
        return [{name: one(connection, f"show {name}") for name in names} for _ in range(3)]


def check_set_follows():
    with connect() as one_client, connect() as other:
        one_client.execute("set TimeZone = 'Asia/Tokyo'")
        one_client.execute("set IntervalStyle = 'iso_8601'")
        other.execute("set TimeZone = 'America/Lima'")
        seen = []
        for _ in range(3):
            for connection in (one_client, other):
                seen.append([one(connection, "show TimeZone"), one(connection, "show IntervalStyle"),
                             connection.info.parameter_status("TimeZone")])
        return seen


def check_wrong_password():
    try:
        connect(password="not the password").close()
    except psycopg.OperationalError as error:
        # libpq puts the address in front, which is another one through a proxy.
        return str(error).rsplit("failed: ", 1)[-1].strip()
    return "logged in"


def check_simple_query():
    with connect() as connection:
        cursor = psycopg.ClientCursor(connection)
        cursor.execute("select 7 as seven, 'text' as text, null as nothing")
        return [[column.name for column in cursor.description], cursor.fetchall(), cursor.statusmessage]


def check_empty_query():
    with connect() as connection:
        empty = connection.execute("")
        return [empty.pgresult.status, empty.statusmessage, one(connection, "select 1")]


def samples():
    zone = dt.timezone(dt.timedelta(hours=2))
    return [
        ("smallint", -32768), ("int", 2147483647), ("bigint", -9223372036854775808),
        ("numeric", Decimal("12345678901234567890.000000001")), ("numeric", Decimal("NaN")),
        ("real", 1.5), ("float8", 0.1), ("float8", float("-inf")), ("bool", True), ("bool", False),
        ("text", ""), ("text", "quote ' backslash \\ dollar $1 percent"), ("text", "zażółć 日本語 🐎 e\u0301"),
        ("varchar(5)", "short"), ("char(5)", "pad"), ("bytea", bytes(range(256))), ("bytea", b""),
        ("date", dt.date(2024, 2, 29)), ("time", dt.time(23, 59, 59, 999999)),
        ("timestamp", dt.datetime(1969, 7, 20, 20, 17, 40, 123456)),
        ("timestamptz", dt.datetime(2025, 3, 30, 3, 0, 0, tzinfo=zone)),
        ("interval", dt.timedelta(days=-3, seconds=5, microseconds=7)),
        ("json", Json({"a": [1, None, "ü"], "b": {}})), ("jsonb", Jsonb([True, 1.5, "x"])),
        ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")), ("inet", "192.0.2.1/24"),
        ("int[]", [1, None, 3]), ("text[]", ["a,b", 'c"d', None, "{}", ""]), ("int[]", [[1, 2], [3, 4]]),
        ("bytea[]", [b"\x00", b"\xff"]), ("int4range", "[3,9)"), ("int", None), ("text", None),
    ]


def check_types():
    seen = []
    with connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for binary in (False, True):
            for name, value in samples():
                query = f"select %(v)s::{name}, (%(v)s::{name})::text"
                row = connection.execute(query, {"v": value}, binary=binary).fetchone()
                seen.append([name, repr(row[0]), row[1]])
    return seen


def check_large_text():
    with connect() as connection:
        sent = "grüße " * 150_000
        received = one(connection, "select %s::text", (sent,))
        return [digest(received), received == sent]


def check_repeated():
    with connect() as connection:
        return [one(connection, "select %s::int * 2", (n,)) for n in range(20)]


def check_rows():
    with connect() as connection:
        rows = connection.execute("select g from generate_series(1, 100000) g").fetchall()
        return [len(rows), sum(row[0] for row in rows)]


def check_streaming():
    with connect() as connection:
        with connection.transaction(), connection.cursor("server_side") as cursor:
            cursor.itersize = 1000
            cursor.execute("select g from generate_series(1, 20000) g")
            by_cursor = sum(row[0] for row in cursor)
        stream = connection.cursor().stream("select g from generate_series(1, %s) g", (20000,))
        by_single_row = sum(row[0] for row in stream)
        return [by_cursor, by_single_row, one(connection, "select 1")]


def check_transaction_commit():
    with fresh(connect()) as connection:
        with connection.transaction():
            connection.execute(f"insert into {TABLE} values (%s, %s)", (1, "kept"))
            connection.execute(f"insert into {TABLE} values (%s, %s)", (2, "kept too"))
        return connection.execute(f"select id, label from {TABLE} order by id").fetchall()


def check_transaction_rollback():
    with fresh(connect()) as connection:
        connection.autocommit = False
        connection.execute(f"insert into {TABLE} values (1, 'gone')")
        inside = one(connection, f"select count(*) from {TABLE}")
        connection.rollback()
        outside = one(connection, f"select count(*) from {TABLE}")
        connection.rollback()
        return [inside, outside]


def check_savepoints():
    with fresh(connect()) as connection:
        with connection.transaction():
            connection.execute(f"insert into {TABLE} values (1, 'outer')")
            with connection.transaction(force_rollback=True):
                connection.execute(f"insert into {TABLE} values (2, 'undone')")
            try:
                with connection.transaction():
                    connection.execute(f"insert into {TABLE} values (1, 'twice')")
            except psycopg.errors.UniqueViolation as error:
                failure = error.sqlstate
            connection.execute(f"insert into {TABLE} values (3, 'after')")
        return [failure, connection.execute(f"select id, label from {TABLE} order by id").fetchall()]


def check_errors():
    with fresh(connect()) as connection:
        connection.execute(f"insert into {TABLE} values (1, 'first')")
        return [
            attempt(connection, "selec 1"),
            attempt(connection, f"insert into {TABLE} values (%s, %s)", (1, "again")),
            attempt(connection, "select 1 / %s::int", (0,)),
            attempt(connection, "select * from no_such_table"),
            attempt(connection, "select %s::int", ("not a number",)),
            attempt(connection, "do $$ begin raise exception 'own' using errcode = 'P0123', hint = 'H', detail = 'D'; end $$"),
            one(connection, "select 1"),
        ]


def check_error_in_transaction():
    with connect() as connection:
        connection.execute("begin")
        first = attempt(connection, "select 1/0")
        second = attempt(connection, "select 1")
        status = connection.info.transaction_status.name
        connection.execute("rollback")
        return [first, second, status, connection.info.transaction_status.name, one(connection, "select 1")]


def check_multi_statement():
    with connect() as connection:
        cursor = connection.execute("select 1; select 'two', 2; values (3), (4)")
        return [result.fetchall() for result in cursor.results()]


def check_multi_statement_error():
    with fresh(connect()) as connection:
        failure = attempt(connection, f"insert into {TABLE} values (1, 'undone'); select 1/0; select 2")
        return [failure, one(connection, f"select count(*) from {TABLE}")]


def check_pipeline():
    with fresh(connect()) as connection:
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("select %s::int + 1", (n,)) for n in range(50)]
            pipeline.sync()
            later = connection.execute("select %s::text", ("after the sync",))
            with connection.transaction():
                connection.execute(f"insert into {TABLE} values (%s, 'piped')", (1,))
                counted = connection.execute(f"select count(*) from {TABLE}")
        many = connection.cursor()
        many.executemany(f"insert into {TABLE} values (%s, %s)", [(n, str(n)) for n in range(2, 102)])
        return [[cursor.fetchone()[0] for cursor in cursors], later.fetchone()[0], counted.fetchone()[0],
                one(connection, f"select count(*) from {TABLE}")]


def check_pipeline_error():
    with fresh(connect()) as connection:
        failure = "no error"
        try:
            # Which of these lines raises depends on when the answer arrives; what it raises does not.
            with connection.pipeline():
                connection.execute(f"insert into {TABLE} values (1, 'undone with its batch')")
                connection.execute("select 1/%s::int", (0,))
                connection.execute("select 'never runs'")
        except psycopg.Error as error:
            failure = refusal(error)
        return [failure, connection.info.transaction_status.name, one(connection, f"select count(*) from {TABLE}")]


def check_copy_in():
    with fresh(connect()) as connection:
        with connection.cursor() as cursor:
            with cursor.copy(f"copy {TABLE} (id, label) from stdin") as copy:
                for number in range(20000):
                    copy.write_row((number, "tab\tand newline\n" if number % 7 == 0 else None))
            text = [cursor.rowcount, cursor.statusmessage]
            with cursor.copy(f"copy {TABLE} (id, label) from stdin (format binary)") as copy:
                copy.set_types(["int4", "text"])
                for number in range(20000, 20100):
                    copy.write_row((number, "binary"))
            query = f"select count(*), count(label), sum(id), md5(string_agg(label, '' order by id)) from {TABLE}"
            return [text, cursor.statusmessage, list(connection.execute(query).fetchone())]


def check_copy_out():
    with connect() as connection:
        query = "copy (select g, 'row ' || g from generate_series(1, 50000) g) to stdout"
        with connection.cursor().copy(query) as copy:
            text = digest(b"".join(bytes(block) for block in copy))
        with connection.cursor().copy(query + " (format binary)") as copy:
            binary = digest(b"".join(bytes(block) for block in copy))
        return [text, binary, one(connection, "select 1")]


def check_copy_in_bad_row():
    with fresh(connect()) as connection:
        try:
            with connection.cursor().copy(f"copy {TABLE} (id, label) from stdin") as copy:
                copy.write("1\tgood\nbad\tbad\n")
                copy.write("2\tnever read\n" * 20000)
        except psycopg.Error as error:
            return [refusal(error), one(connection, f"select count(*) from {TABLE}")]
    return "no error"


def check_copy_in_aborted():
    with fresh(connect()) as connection:
        try:
            with connection.cursor().copy(f"copy {TABLE} (id, label) from stdin") as copy:
                copy.write("1\tgood\n")
                raise ValueError("changed my mind")
        except ValueError as error:
            return [str(error), one(connection, f"select count(*) from {TABLE}")]


def check_notice():
    with connect() as connection:
        notices = []
        connection.add_notice_handler(
            lambda d: notices.append([d.severity_nonlocalized, d.sqlstate, d.message_primary, d.message_detail]))
        connection.execute("do $$ begin raise notice 'one'; raise warning 'two' using detail = 'more'; end $$")
        connection.execute("do $$ begin for i in 1..50 loop raise notice 'number %', i; end loop; end $$")
        return notices


def cancel_when_running(connection, marker):
    """Cancels from another thread, once the server says that the statement runs."""
    with connect() as observer:
        limit = monotonic() + 15
        running = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like %s"
        while one(observer, running, (f"%{marker}%",)) == 0 and monotonic() < limit:
            sleep(0.02)
    connection.cancel_safe()


def check_cancel():
    seen = []
    with connect() as connection:
        for round in range(3):
            # Not in one piece, or the observer would find itself.
            thread = Thread(target=cancel_when_running, args=(connection, "pg_sleep(50) /* psycopg"))
            thread.start()
            seen.append(attempt(connection, "select pg_sleep(50) /* psycopg */"))
            thread.join()
            seen.append(one(connection, "select 'usable'"))
    return seen


def check_statement_timeout():
    with connect() as connection:
        connection.execute("begin")
        connection.execute("set local statement_timeout = '50ms'")
        failure = attempt(connection, "select pg_sleep(50)")
        connection.execute("rollback")
        return [failure, one(connection, "select 'usable'"), one(connection, "show statement_timeout")]


def worker(number):
    with connect() as connection:
        for turn in range(10):
            with connection.transaction():
                connection.execute(f"update {TABLE} set amount = amount + 1 where id = %s", (turn,))
                connection.execute(f"insert into {TABLE} values (%s, %s)", (1000 + number * 10 + turn, "mine"))
        low = 1000 + number * 10
        return one(connection, f"select count(*) from {TABLE} where id between %s and %s", (low, low + 9))


def check_parallel():
    with fresh(connect()) as connection:
        connection.execute(f"insert into {TABLE} select g, 'counter', 0 from generate_series(0, 9) g")
    with ThreadPoolExecutor(20) as threads:
        counts = list(threads.map(worker, range(20)))
    with connect() as connection:
        return [counts, list(connection.execute(f"select count(*), sum(amount) from {TABLE}").fetchone())]


def check_big_value():
    with connect() as connection:
        text = one(connection, "select repeat('0123456789', 1048576)")
        blob = connection.execute("select convert_to(repeat('xyz', 3000000), 'UTF8')", binary=True).fetchone()[0]
        return [digest(text), digest(blob), one(connection, "select 1")]


def check_big_rows():
    with connect() as connection:
        rows = connection.execute(SERIES).fetchall()
        return [len(rows), digest("".join(row[1] for row in rows))]


def main():
    with connect() as connection:
        connection.execute(f"drop table if exists {TABLE}")
        connection.execute(f"create table {TABLE} (id int primary key, label text, amount int)")
    checks = [(name[len("check_"):], check) for name, check in globals().items() if name.startswith("check_")]
    passed = [perform(name, check) for name, check in checks]
    with connect() as connection:
        connection.execute(f"drop table {TABLE}")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
