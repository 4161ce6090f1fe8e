"""asyncpg: its own binary protocol; Flush instead of Sync after Parse, portals with row limits."""

import asyncio
import datetime as dt
import sys
import uuid
from decimal import Decimal

import asyncpg

from matrix import CACHE, DATABASE, HOST, PASSWORD, PORT, REPORTED, SERIES, SHOWN, USER, digest, perform

TABLE = "matrix_asyncpg"


async def connect(**settings):
    wanted = {"host": HOST, "port": PORT, "user": USER, "password": PASSWORD, "database": DATABASE, "ssl": False,
              "server_settings": {"application_name": "matrix asyncpg"},
              "statement_cache_size": 100 if CACHE else 0} | settings
    return await asyncpg.connect(**wanted)


class Connected:
    """A connection that is closed at the end of the block, with an empty table if asked for."""

    def __init__(self, empty_table=False, **settings):
        self.empty_table, self.settings = empty_table, settings

    async def __aenter__(self):
        self.connection = await connect(**self.settings)
        if self.empty_table:
            await self.connection.execute(f"delete from {TABLE}")
        return self.connection

    async def __aexit__(self, *_):
        await self.connection.close()


def refusal(error):
    names = ["sqlstate", "severity_en", "message", "detail", "hint", "position", "constraint_name", "context"]
    fields = {name: getattr(error, name, None) for name in names}
    return {name: value for name, value in fields.items() if value}


async def attempt(call):
    try:
        await call
    except asyncpg.PostgresError as error:
        return refusal(error)
    return "no error"


def plain(records):
    return [list(record.values()) for record in records]


async def check_connect():
    async with Connected() as connection:
        return plain(await connection.fetch("select 1, current_user::text, current_database()::text"))


async def check_parameters():
    async with Connected() as connection:
        settings = connection.get_settings()
        return {name: getattr(settings, name, None) for name in REPORTED}


async def check_show():
    async with Connected() as connection:
        return {name: await connection.fetchval(f"show {name}") for name in SHOWN}


async def check_startup_parameters():
    settings = {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "statement_timeout": "54321", "search_path": "pg_catalog,public"}
    async with Connected(server_settings=settings) as connection:
        return [{name: await connection.fetchval(f"show {name}") for name in settings} for _ in range(3)]


async def check_set_follows():
    async with Connected() as one_client, Connected() as other:
        await one_client.execute("set TimeZone = 'Asia/Tokyo'")
        await one_client.execute("set IntervalStyle = 'iso_8601'")
        await other.execute("set TimeZone = 'America/Lima'")
        return [[await connection.fetchval("show TimeZone"), await connection.fetchval("show IntervalStyle"),
                 connection.get_settings().TimeZone] for _ in range(3) for connection in (one_client, other)]


async def check_wrong_password():
    return await attempt(connect(password="not the password"))


async def check_simple_query():
    async with Connected() as connection:
        return [await connection.execute("select 7 as seven"), await connection.execute("set DateStyle = 'ISO'"),
                plain(await connection.fetch("select 7 as seven, 'text' as text, null as nothing"))]


async def check_empty_query():
    async with Connected() as connection:
        return [plain(await connection.fetch("")), await connection.fetchval("select 1")]


def samples():
    zone = dt.timezone(dt.timedelta(hours=2))
    return [
        ("smallint", -32768), ("int", 2147483647), ("bigint", -9223372036854775808),
        ("numeric", Decimal("12345678901234567890.000000001")), ("numeric", Decimal("NaN")),
        ("real", 1.5), ("float8", 0.1), ("float8", float("-inf")), ("bool", True), ("bool", False),
        ("text", ""), ("text", "quote ' backslash \\ dollar $1 percent %s"), ("text", "zażółć 日本語 🐎 e\u0301"),
        ("varchar(5)", "short"), ("char(5)", "pad"), ("bytea", bytes(range(256))), ("bytea", b""),
        ("date", dt.date(2024, 2, 29)), ("time", dt.time(23, 59, 59, 999999)),
        ("timestamp", dt.datetime(1969, 7, 20, 20, 17, 40, 123456)),
        ("timestamptz", dt.datetime(2025, 3, 30, 3, 0, 0, tzinfo=zone)),
        ("interval", dt.timedelta(days=-3, seconds=5, microseconds=7)),
        ("json", '{"a": [1, null, "ü"]}'), ("jsonb", '[true, 1.5, "x"]'),
        ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")), ("inet", "192.0.2.1/24"),
        ("int[]", [1, None, 3]), ("text[]", ["a,b", 'c"d', None, "{}", ""]), ("int[]", [[1, 2], [3, 4]]),
        ("bytea[]", [b"\x00", b"\xff"]), ("int4range", asyncpg.Range(3, 9)), ("point", asyncpg.Point(1, -2.5)),
        ("int", None), ("text", None),
    ]


async def check_types():
    seen = []
    async with Connected() as connection:
        await connection.execute("set TimeZone = 'UTC'")
        for name, value in samples():
            row = await connection.fetchrow(f"select $1::{name}, ($1::{name})::text", value)
            seen.append([name, repr(row[0]), row[1]])
    return seen


async def check_large_text():
    async with Connected() as connection:
        sent = "grüße " * 150_000
        received = await connection.fetchval("select $1::text", sent)
        return [digest(received), received == sent]


async def check_repeated():
    async with Connected() as connection:
        return [await connection.fetchval("select $1::int * 2", n) for n in range(20)]


async def check_rows():
    async with Connected() as connection:
        rows = await connection.fetch("select g from generate_series(1, 100000) g")
        return [len(rows), sum(row[0] for row in rows)]


async def check_streaming():
    async with Connected() as connection:
        async with connection.transaction():
            iterated = 0
            async for row in connection.cursor("select g from generate_series(1, $1) g", 20000, prefetch=1000):
                iterated += row[0]
            cursor = await connection.cursor("select g from generate_series(1, 100) g")
            fetched = plain(await cursor.fetch(3))
            skipped = await cursor.forward(10)
            fetched += plain(await cursor.fetch(2))
            # asyncpg closes the statements that are done with before its next one: while the transaction lasts.
            del cursor
            await connection.fetch("select 1")
        return [iterated, fetched, skipped, await connection.fetchval("select 1")]


async def check_transaction_commit():
    async with Connected(empty_table=True) as connection:
        async with connection.transaction():
            await connection.execute(f"insert into {TABLE} values ($1, $2)", 1, "kept")
            await connection.execute(f"insert into {TABLE} values ($1, $2)", 2, "kept too")
        return plain(await connection.fetch(f"select id, label from {TABLE} order by id"))


async def check_transaction_rollback():
    async with Connected(empty_table=True) as connection:
        transaction = connection.transaction(isolation="serializable")
        await transaction.start()
        await connection.execute(f"insert into {TABLE} values (1, 'gone')")
        inside = await connection.fetchval(f"select count(*) from {TABLE}")
        level = await connection.fetchval("show transaction_isolation")
        await transaction.rollback()
        return [inside, level, await connection.fetchval(f"select count(*) from {TABLE}")]


async def check_savepoints():
    async with Connected(empty_table=True) as connection:
        async with connection.transaction():
            await connection.execute(f"insert into {TABLE} values (1, 'outer')")
            inner = connection.transaction()
            await inner.start()
            await connection.execute(f"insert into {TABLE} values (2, 'undone')")
            await inner.rollback()
            try:
                async with connection.transaction():
                    await connection.execute(f"insert into {TABLE} values ($1, 'twice')", 1)
            except asyncpg.UniqueViolationError as error:
                failure = error.sqlstate
            await connection.execute(f"insert into {TABLE} values (3, 'after')")
        return [failure, plain(await connection.fetch(f"select id, label from {TABLE} order by id"))]


async def check_errors():
    async with Connected(empty_table=True) as connection:
        await connection.execute(f"insert into {TABLE} values (1, 'first')")
        own = "do $$ begin raise exception 'own' using errcode = 'P0123', hint = 'H', detail = 'D'; end $$"
        return [
            await attempt(connection.fetch("selec 1")),
            await attempt(connection.execute("selec 1")),
            await attempt(connection.execute(f"insert into {TABLE} values ($1, $2)", 1, "again")),
            await attempt(connection.fetch("select 1 / $1::int", 0)),
            await attempt(connection.fetch("select * from no_such_table")),
            await attempt(connection.fetch("select $1::text::int", "not a number")),
            await attempt(connection.execute(own)),
            await connection.fetchval("select 1"),
        ]


async def check_error_in_transaction():
    async with Connected() as connection:
        await connection.execute("begin")
        first = await attempt(connection.fetch("select 1/0"))
        second = await attempt(connection.fetch("select 1"))
        inside = connection.is_in_transaction()
        await connection.execute("rollback")
        return [first, second, inside, connection.is_in_transaction(), await connection.fetchval("select 1")]


async def check_multi_statement():
    async with Connected(empty_table=True) as connection:
        status = await connection.execute(f"insert into {TABLE} values (1); insert into {TABLE} values (2), (3); select 1")
        return [status, await connection.fetchval(f"select count(*) from {TABLE}")]


async def check_multi_statement_error():
    async with Connected(empty_table=True) as connection:
        failure = await attempt(connection.execute(f"insert into {TABLE} values (1, 'undone'); select 1/0; select 2"))
        return [failure, await connection.fetchval(f"select count(*) from {TABLE}")]


async def check_pipeline():
    async with Connected(empty_table=True) as connection:
        await connection.executemany(f"insert into {TABLE} values ($1, $2)", [(n, str(n)) for n in range(5000)])
        back = await connection.fetchmany(f"insert into {TABLE} values ($1) returning id * 2", [(n,) for n in range(9000, 9010)])
        return [plain(back), plain(await connection.fetch(f"select count(*), sum(id), sum(label::int) from {TABLE}"))]


async def check_pipeline_error():
    async with Connected(empty_table=True) as connection:
        rows = [(n % 4000, "again from 4000") for n in range(5000)]
        failure = await attempt(connection.executemany(f"insert into {TABLE} values ($1, $2)", rows))
        return [failure, await connection.fetchval(f"select count(*) from {TABLE}")]


async def check_copy_in():
    async with Connected(empty_table=True) as connection:
        records = [(n, "tab\tand newline\n" if n % 7 == 0 else None) for n in range(20000)]
        binary = await connection.copy_records_to_table(TABLE, records=records, columns=["id", "label"])

        async def lines():
            for number in range(20000, 20100):
                yield f"{number},text\n".encode()
        text = await connection.copy_to_table(TABLE, source=lines(), columns=["id", "label"], format="csv")
        query = f"select count(*), count(label), sum(id), md5(string_agg(label, '' order by id)) from {TABLE}"
        return [binary, text, plain(await connection.fetch(query))]


async def check_copy_out():
    async with Connected() as connection:
        query = "select g, 'row ' || g from generate_series(1, 50000) g"
        seen = []
        for form in ("text", "binary"):
            received = bytearray()

            async def take(block):
                received.extend(block)
            status = await connection.copy_from_query(query, output=take, format=form)
            seen.append([status, digest(received)])
        return seen + [await connection.fetchval("select 1")]


async def check_copy_in_bad_row():
    async with Connected(empty_table=True) as connection:
        async def lines():
            yield b"1\tgood\nbad\tbad\n"
            for _ in range(20):
                yield b"2\tnever read\n" * 1000
        failure = await attempt(connection.copy_to_table(TABLE, source=lines(), columns=["id", "label"]))
        return [failure, await connection.fetchval(f"select count(*) from {TABLE}")]


async def check_copy_in_aborted():
    async with Connected(empty_table=True) as connection:
        async def lines():
            yield b"1\tgood\n"
            raise ValueError("changed my mind")
        try:
            await connection.copy_to_table(TABLE, source=lines(), columns=["id", "label"])
        except ValueError as error:
            return [str(error), await connection.fetchval(f"select count(*) from {TABLE}")]


async def check_notice():
    async with Connected() as connection:
        notices = []
        connection.add_log_listener(lambda _, n: notices.append([n.severity_en, n.sqlstate, n.message, n.detail]))
        await connection.execute("do $$ begin raise notice 'one'; raise warning 'two' using detail = 'more'; end $$")
        await connection.execute("do $$ begin for i in 1..50 loop raise notice 'number %', i; end loop; end $$")
        # Listeners run on the event loop's next turn.
        await asyncio.sleep(0)
        return notices


async def running(marker, wanted):
    """Waits until the server runs, or no longer runs, a statement that begins with the marker."""
    query = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like $1"
    async with Connected() as observer:
        for _ in range(750):
            if (await observer.fetchval(query, marker + "%") > 0) == wanted:
                return wanted
            await asyncio.sleep(0.02)
    return not wanted


async def check_cancel():
    seen = []
    statement = "select pg_sleep(50) /* asyncpg */"
    async with Connected() as connection:
        for _ in range(3):
            task = asyncio.ensure_future(connection.execute(statement))
            await running(statement, True)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                # asyncpg keeps the server's 57014 to itself; what it shows is a connection that works again.
                seen.append("cancelled")
            seen.append(await connection.fetchval("select 'usable'"))
            seen.append(["still running", await running(statement, False)])
        try:
            await connection.fetch(statement, timeout=0.3)
        except asyncio.TimeoutError:
            seen.append("timed out")
        seen.append(await connection.fetchval("select 'usable'"))
    return seen


async def check_statement_timeout():
    async with Connected() as connection:
        await connection.execute("begin")
        await connection.execute("set local statement_timeout = '50ms'")
        failure = await attempt(connection.fetch("select pg_sleep(50)"))
        await connection.execute("rollback")
        return [failure, await connection.fetchval("select 'usable'"), await connection.fetchval("show statement_timeout")]


async def worker(number):
    async with Connected() as connection:
        for turn in range(10):
            async with connection.transaction():
                await connection.execute(f"update {TABLE} set amount = amount + 1 where id = $1", turn)
                await connection.execute(f"insert into {TABLE} values ($1, $2)", 1000 + number * 10 + turn, "mine")
        low = 1000 + number * 10
        return await connection.fetchval(f"select count(*) from {TABLE} where id between $1 and $2", low, low + 9)


async def check_parallel():
    async with Connected(empty_table=True) as connection:
        await connection.execute(f"insert into {TABLE} select g, 'counter', 0 from generate_series(0, 9) g")
    counts = await asyncio.gather(*[worker(number) for number in range(20)])
    async with Connected() as connection:
        return [counts, plain(await connection.fetch(f"select count(*), sum(amount) from {TABLE}"))]


async def check_big_value():
    async with Connected() as connection:
        text = await connection.fetchval("select repeat('0123456789', 1048576)")
        blob = await connection.fetchval("select convert_to(repeat('xyz', 3000000), 'UTF8')")
        return [digest(text), digest(blob), await connection.fetchval("select 1")]


async def check_big_rows():
    async with Connected() as connection:
        rows = await connection.fetch(SERIES)
        return [len(rows), digest("".join(row[1] for row in rows))]


async def prepare_table():
    async with Connected() as connection:
        await connection.execute(f"drop table if exists {TABLE}")
        await connection.execute(f"create table {TABLE} (id int primary key, label text, amount int)")


async def drop_table():
    async with Connected() as connection:
        await connection.execute(f"drop table {TABLE}")


def main():
    asyncio.run(prepare_table())
    checks = [(name[len("check_"):], check) for name, check in globals().items() if name.startswith("check_")]
    passed = [perform(name, lambda: asyncio.run(check())) for name, check in checks]
    asyncio.run(drop_table())
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
