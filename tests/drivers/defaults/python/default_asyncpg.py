"""asyncpg as it comes: its statement cache is on, and its pool resets a connection that is given back.

Each client has an event loop and a pool of one connection, as a function instance has."""

import asyncio
import json
import re
import threading
from contextlib import contextmanager

import asyncpg

from scenario import COLUMNS, Library, main, moment, refusal, row_id, values

TABLE = "default_asyncpg"

INSERT = f"insert into {TABLE} values ({', '.join(f'${at + 1}' for at in range(len(COLUMNS)))})"


def adapted(row):
    return [json.dumps(value) if name == "data" else value for name, value in row.items()]


def refused(error):
    return refusal(error, error.sqlstate, error.constraint_name)


async def create_pool(size, **settings):
    return await asyncpg.create_pool(min_size=size, max_size=size, **settings)


class Session:
    """The event loop of a client's thread and its pool. A connection is taken out for each invocation; the checks that are
    the same for all libraries keep one from one transaction to the next."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.pool = self.run(create_pool(1))
        self.kept = None

    def run(self, work):
        return self.loop.run_until_complete(work)

    def keep(self):
        if self.kept is None:
            self.kept = self.run(self.pool.acquire())
        return self.kept

    def give_back(self):
        if self.kept is not None:
            self.run(self.pool.release(self.kept))
            self.kept = None

    def invoke(self, work, *arguments):
        async def invocation():
            async with self.pool.acquire() as connection:
                return await work(connection, *arguments)
        self.give_back()
        return self.run(invocation())

    def close(self):
        self.give_back()
        self.run(self.pool.close())
        self.loop.close()


async def one(connection, text, *values):
    return list(await connection.fetchrow(text, *values))


async def work(connection, number, turn):
    async with connection.transaction():
        await connection.execute(INSERT, *adapted(values(number, turn)))
        row = await one(connection, f"select label, amount from {TABLE} where id = $1", row_id(number, turn))
        changed = await connection.execute(f"update {TABLE} set amount = amount + $1 where client = $2", 1.5, number)
        seen = [row, changed, await one(connection, f"select count(*), sum(amount) from {TABLE} where client = $1", number)]
        if turn % 3 == 0:
            text = f"select id from {TABLE} where client = $1 order by seen desc limit $2"
            seen.append([list(row) for row in await connection.fetch(text, number, 2)])
        return seen


async def autocommit(connection, number, turn):
    changed = await connection.execute(f"update {TABLE} set flag = not flag where id = $1", row_id(number, turn))
    row = await one(connection, f"select label, flag from {TABLE} where id = $1", row_id(number, turn))
    return [changed, row, await connection.fetchval("select now() is not null")]


async def types(connection, number, turn):
    async with connection.transaction():
        await connection.execute(INSERT, *adapted(values(number, turn)))
        row = await one(connection, f"select * from {TABLE} where id = $1", row_id(number, turn))
        # asyncpg asks the server about the enum, and switches JIT off while it does.
        text = f"select count(*) from {TABLE} where client = $1 and mood = any($2::{TABLE}_mood[]) and seen = $3 and tags @> $4"
        return [row, await one(connection, text, number, ["calm", "wild"], moment(turn), [f"t{turn}"])]


async def unique_violation(connection, row, again):
    try:
        async with connection.transaction():
            await connection.execute(INSERT, *adapted(row))
            await connection.execute(INSERT, *adapted(row))
    except asyncpg.UniqueViolationError as error:
        failure = refused(error)
    async with connection.transaction():
        for each in (row, again):
            await connection.execute(INSERT, *adapted(each))
    return failure


async def savepoint_error(connection, row, again):
    async with connection.transaction():
        await connection.execute(INSERT, *adapted(row))
        try:
            async with connection.transaction():
                await connection.execute(INSERT, *adapted(row))
        except asyncpg.UniqueViolationError as error:
            failure = refused(error)
        await connection.execute(INSERT, *adapted(again))
    return failure


async def isolation(connection):
    seen = []
    for settings in ({"isolation": "serializable", "readonly": True}, {}):
        async with connection.transaction(**settings):
            seen.append(await connection.fetchval("show transaction_isolation"))
            seen.append(await connection.fetchval("show transaction_read_only"))
    return seen


async def batch(connection, rows):
    await connection.executemany(INSERT, [adapted(row) for row in rows[1:]])
    back = await connection.fetchmany(f"{INSERT} returning id", [adapted(rows[0])])
    return [list(row) for row in back]


async def cursor(connection):
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("select g from generate_series(1, $1) g", 1000, prefetch=100):
            total += row[0]
        portions = await connection.cursor("select g from generate_series(1, 100) g")
        await portions.forward(10)
        return [total, [list(row) for row in await portions.fetch(3)]]


class AsyncPG(Library):
    table = TABLE

    def connect(self, number):
        return Session()

    def close(self, session):
        session.close()

    @contextmanager
    def transaction(self, session):
        transaction = session.keep().transaction()
        session.run(transaction.start())
        try:
            yield
        except BaseException:
            session.run(transaction.rollback())
            raise
        session.run(transaction.commit())

    def rows(self, session, text, *values):
        number = iter(range(1, len(values) + 1))
        text = re.sub("%s", lambda _: f"${next(number)}", text)
        return [list(row) for row in session.run(session.keep().fetch(text, *values))]

    def alone(self, session, text):
        session.run(session.keep().execute(text))

    def work(self, session, number, turn):
        return session.invoke(work, number, turn)

    def autocommit(self, session, number, turn):
        return session.invoke(autocommit, number, turn)

    def types(self, session, number, turn):
        return session.invoke(types, number, turn)

    def unique_violation(self, session, row, again):
        return session.invoke(unique_violation, row, again)

    def savepoint_error(self, session, row, again):
        return session.invoke(savepoint_error, row, again)

    def isolation(self, session):
        return session.invoke(isolation)

    def batch(self, session, rows):
        return session.invoke(batch, rows)

    def cursor(self, session):
        return session.invoke(cursor)

    @contextmanager
    def pool(self):
        """One loop for all; what is given back with a setting changed is reset for the next."""
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()

        def call(work):
            return asyncio.run_coroutine_threadsafe(work, loop).result()

        async def once(number):
            async with pool.acquire() as connection:
                found = await one(connection, "select current_setting('TimeZone'), $1::int", number)
                await connection.execute("set timezone = 'Asia/Tokyo'")
                return found + await one(connection, "select current_setting('TimeZone')")

        pool = call(create_pool(4, server_settings={"timezone": "America/Lima"}))
        try:
            yield lambda number, turn: call(once(number))
        finally:
            call(pool.close())
            loop.call_soon_threadsafe(loop.stop)

    def listen(self, session, channel, notify):
        got = []
        connection = session.keep()
        session.run(connection.add_listener(channel, lambda *call: got.append(call[-1])))
        notify()

        async def wait():
            for _ in range(400):
                if len(got) == 2:
                    return
                await asyncio.sleep(0.05)
        session.run(wait())
        session.run(connection.reset())
        return [got, session.run(connection.fetchval("select 'usable'"))]


main(AsyncPG())
