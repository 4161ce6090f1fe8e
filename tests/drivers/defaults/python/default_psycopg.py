"""psycopg 3 as it comes: it prepares a statement by itself when it has run five times. With psycopg_pool."""

from contextlib import contextmanager

import psycopg
import psycopg_pool
from psycopg.types.json import Jsonb

from scenario import COLUMNS, Library, main, moment, refusal, row_id, values

TABLE = "default_psycopg"

INSERT = f"insert into {TABLE} values ({', '.join(f'%({name})s' for name in COLUMNS)})"


def adapted(row):
    return row | {"data": Jsonb(row["data"])}


def refused(error):
    return refusal(error, error.sqlstate, error.diag.constraint_name)


class Psycopg(Library):
    table = TABLE

    def connect(self, number):
        # Everything comes from the environment.
        return psycopg.connect("")

    def close(self, connection):
        connection.close()

    def transaction(self, connection):
        return connection.transaction()

    def rows(self, connection, text, *values):
        cursor = connection.execute(text, values or None)
        return cursor.fetchall() if cursor.description else []

    def alone(self, connection, text):
        connection.autocommit = True
        connection.execute(text)
        connection.autocommit = False

    def work(self, connection, number, turn):
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(INSERT, adapted(values(number, turn)))
            cursor.execute(f"select label, amount from {TABLE} where id = %s", [row_id(number, turn)])
            row = cursor.fetchone()
            cursor.execute(f"update {TABLE} set amount = amount + %s where client = %s", [1.5, number])
            changed = cursor.rowcount
            cursor.execute(f"select count(*), sum(amount) from {TABLE} where client = %s", [number])
            seen = [row, changed, cursor.fetchone()]
            if turn % 3 == 0:
                cursor.execute(f"select id from {TABLE} where client = %s order by seen desc limit %s", [number, 2])
                seen.append(cursor.fetchall())
            return seen

    def autocommit(self, connection, number, turn):
        connection.autocommit = True
        try:
            changed = connection.execute(f"update {TABLE} set flag = not flag where id = %s", [row_id(number, turn)]).rowcount
            row = connection.execute(f"select label, flag from {TABLE} where id = %s", [row_id(number, turn)]).fetchone()
            return [changed, row, connection.execute("select now() is not null").fetchone()]
        finally:
            connection.autocommit = False

    def types(self, connection, number, turn):
        with connection.transaction():
            connection.execute(INSERT, adapted(values(number, turn)))
            row = connection.execute(f"select * from {TABLE} where id = %s", [row_id(number, turn)]).fetchone()
            text = f"select count(*) from {TABLE} where client = %s and mood = any(%s::{TABLE}_mood[]) and seen = %s and tags @> %s"
            found = connection.execute(text, [number, ["calm", "wild"], moment(turn), [f"t{turn}"]])
            return [row, found.fetchone()]

    def unique_violation(self, connection, row, again):
        try:
            with connection.transaction():
                connection.execute(INSERT, adapted(row))
                connection.execute(INSERT, adapted(row))
        except psycopg.errors.UniqueViolation as error:
            failure = refused(error)
        with connection.transaction():
            for each in (row, again):
                connection.execute(INSERT, adapted(each))
        return failure

    def savepoint_error(self, connection, row, again):
        with connection.transaction():
            connection.execute(INSERT, adapted(row))
            try:
                with connection.transaction():
                    connection.execute(INSERT, adapted(row))
            except psycopg.errors.UniqueViolation as error:
                failure = refused(error)
            connection.execute(INSERT, adapted(again))
        return failure

    def isolation(self, connection):
        seen = []
        for level, read_only in ((psycopg.IsolationLevel.SERIALIZABLE, True), (None, None)):
            connection.isolation_level, connection.read_only = level, read_only
            with connection.transaction():
                seen.append(connection.execute("show transaction_isolation").fetchone())
                seen.append(connection.execute("show transaction_read_only").fetchone())
        return seen

    def batch(self, connection, rows):
        with connection.transaction(), connection.cursor() as cursor:
            # A pipeline, by itself; then one of our own.
            cursor.executemany(INSERT, [adapted(row) for row in rows])
            inserted = cursor.rowcount
            with connection.pipeline():
                cursors = [connection.execute("select %s::int * 2", [n]) for n in range(8)]
                return [inserted, [each.fetchone() for each in cursors]]

    def cursor(self, connection):
        with connection.transaction(), connection.cursor(name="portions") as cursor:
            cursor.itersize = 100
            cursor.execute("select g from generate_series(1, %s) g", [1000])
            total = sum(row[0] for row in cursor)
            cursor.scroll(10, mode="absolute")
            return [total, cursor.fetchmany(3)]

    @contextmanager
    def pool(self):
        with psycopg_pool.ConnectionPool("", min_size=4, timeout=60) as pool:
            def run(number, turn):
                with pool.connection() as connection:
                    return connection.execute(f"select count(*) from {TABLE} where client = %s", [number]).fetchone()
            yield run

    def listen(self, connection, channel, notify):
        connection.autocommit = True
        connection.execute(f"listen {channel}")
        notify()
        got = [note.payload for note in connection.notifies(timeout=20, stop_after=2)]
        connection.execute(f"unlisten {channel}")
        return [got, connection.execute("select 'usable'").fetchone()]


main(Psycopg())
