"""What the Python programs of this matrix share: the clients, and every check that is the same for each library.

A client is a function instance: a thread that connects once and then runs invocations, each one transaction, with a pause
between two. All clients run at once, each on rows of its own, so that results do not depend on who came first.

A program derives from Library. Statements here have `%s` for their parameters, as psycopg has.
"""

import datetime as dt
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "python"))

from matrix import Skip, perform  # noqa: E402 (from the other matrix)

CLIENTS = 20

ZONES = ["Asia/Tokyo", "America/Lima", "Europe/Warsaw", "UTC", "Australia/Sydney"]

# Columns of the table that every program has.
COLUMNS = ["id", "client", "label", "amount", "data", "tags", "seen", "flag", "ratio", "mood"]

SETTINGS = ["application_name", "TimeZone", "statement_timeout", "search_path"]

SHOW = "select " + ", ".join(f"current_setting('{name}')" for name in SETTINGS)

# As many different statements; a client runs some of them, and each client begins with another.
STATEMENTS = [f"select %s::int + {number}, 'statement {number}'" for number in range(24)]


def row_id(number, row):
    return number * 10_000 + row


def moment(turn):
    return dt.datetime(2025, 3, 30, 0, 59, 59, 123456, tzinfo=dt.timezone.utc) + dt.timedelta(hours=turn)


def values(number, turn):
    """A row of the client's, with a value of every type; some are null."""
    return {
        "id": row_id(number, turn), "client": number, "label": f"client {number}, turn {turn}",
        "amount": Decimal(number * 100 + turn) + Decimal("0.25"), "data": {"turn": turn, "list": [1, None, "ü"]},
        "tags": [f"t{turn}", "a,b", 'c"d', ""], "seen": moment(turn), "flag": turn % 2 == 0,
        "ratio": None if turn % 3 else turn / 8, "mood": ["calm", "wild"][turn % 2],
    }


def plain(value):
    """What JSON has no notation for."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.timezone.utc).isoformat()
    return str(value) if isinstance(value, (Decimal, dt.date, dt.timedelta)) else value


def pause(number, turn):
    """Between two invocations. Of another length for each, so that clients overtake each other."""
    time.sleep((number * 7 + turn * 13) % 11 * 0.003)


class Client:
    """A thread of its own: some libraries tie a connection to its thread."""

    def __init__(self, number):
        self.number = number
        self.session = None
        self.thread = ThreadPoolExecutor(max_workers=1)

    def begin(self, work, *arguments):
        return self.thread.submit(work, *arguments)

    def do(self, work, *arguments):
        return self.begin(work, *arguments).result()


class Library:
    """What a program has to provide, in its library's ordinary style. A session is whatever connect() returns."""

    table = ""

    # One in so many invocations is enough where each is dear.
    thinned = 1

    def connect(self, number):
        raise NotImplementedError

    def close(self, session):
        raise NotImplementedError

    def transaction(self, session):
        """A context: a transaction on the session's connection, which stays the same from one to the next."""
        raise NotImplementedError

    def rows(self, session, text, *values):
        """The rows of one statement within a transaction."""
        raise NotImplementedError

    def alone(self, session, text):
        """A statement outside a transaction."""
        raise NotImplementedError

    def work(self, session, number, turn):
        """One invocation: inserts the row of this turn, reads it, changes all of the client's, and sums up."""
        raise NotImplementedError

    def autocommit(self, session, number, turn):
        """Statements with parameters outside a transaction."""
        raise NotImplementedError

    def types(self, session, number, turn):
        """The row of every type, and a list of the enum's values as a parameter."""
        raise NotImplementedError

    def unique_violation(self, session, row, again):
        """Inserts `row` twice in one transaction, which fails; then `row` and `again` in a new one. Returns the error."""
        raise NotImplementedError

    def savepoint_error(self, session, row, again):
        """Inserts `row`, `row` once more within a savepoint, which fails, and `again`, in one transaction."""
        raise NotImplementedError

    def isolation(self, session):
        """A serializable transaction and an ordinary one."""
        raise NotImplementedError

    def batch(self, session, rows):
        """Many rows in the library's way to save round trips."""
        raise NotImplementedError

    def cursor(self, session):
        """A result taken in portions within a transaction."""
        raise NotImplementedError

    def pool(self):
        """A pool of at most 4 connections: a context that gives a function which runs one transaction on one of them."""
        raise Skip("has no pool")

    def listen(self, session, notify):
        """Listens on a channel, calls notify(channel) and returns the payloads."""
        raise Skip("has no place for notifications")


def refusal(error, sqlstate, constraint=None):
    return [sqlstate, constraint, str(error).strip().splitlines()[0]]


class Scenario:
    def __init__(self, library):
        self.library = library
        self.table = library.table
        self.clients = [Client(number) for number in range(CLIENTS)]
        self.extra = Client(CLIENTS)

    # How clients run.

    def all(self, work):
        """work(client) for every client, all at once."""
        under_way = [client.begin(work, client) for client in self.clients]
        return plain([each.result() for each in under_way])

    def turns(self, count, once):
        """Invocations of every client: once(client, turn)."""
        def invocations(client):
            seen = []
            for turn in range(0, count, self.library.thinned):
                seen.append(once(client, turn))
                pause(client.number, turn)
            return seen
        return self.all(invocations)

    def others(self, text="select count(*) >= 0 from {table} where client = %s"):
        """A transaction of each of three other clients: whatever stays on a server connection has other company now."""
        def once(client):
            self.statement(client, text.format(table=self.table), *[client.number] * text.count("%s"))
        for under_way in [client.begin(once, client) for client in self.clients[1:4]]:
            under_way.result()

    def statement(self, client, *statements):
        """One transaction of one statement; its rows."""
        text, *values = statements
        with self.library.transaction(client.session):
            return self.library.rows(client.session, text, *values)

    def script(self, *texts):
        """One transaction for each text, of a client that has just connected, with others' transactions in between."""
        def once(text):
            return self.statement(self.extra, text)
        return self.with_extra(lambda: [self.extra.do(once, text) + (self.others() or []) for text in texts])

    def with_extra(self, work):
        """Gives a client that has just connected; what it leaves behind goes with it."""
        # The one before has left a moment ago, and may still be on its way out.
        time.sleep(0.1)
        self.connect(self.extra)
        try:
            return plain(work())
        finally:
            self.disconnect(self.extra)

    def connect(self, client):
        client.session = client.do(self.library.connect, client.number)

    def disconnect(self, client):
        client.do(self.library.close, client.session)
        client.session = None

    def connect_all(self):
        def once(client):
            client.session = self.library.connect(client.number)
        self.all(once)

    def disconnect_all(self):
        self.all(lambda client: self.library.close(client.session))

    # Before and after the checks.

    def prepare(self):
        self.clear()
        statements = [
            f"create type {self.table}_mood as enum ('calm', 'wild')",
            f"create sequence {self.table}_seq",
            f"create table {self.table} (id bigint primary key, client int not null, label text, amount numeric(12, 2),"
            f" data jsonb, tags text[], seen timestamptz, flag bool, ratio float8, mood {self.table}_mood)",
        ]
        self.with_extra(lambda: [self.extra.do(self.execute, text) for text in statements])

    def clear(self):
        statements = [f"drop table if exists {self.table}", f"drop type if exists {self.table}_mood",
                      f"drop sequence if exists {self.table}_seq"]
        self.with_extra(lambda: [self.extra.do(self.execute, text) for text in statements])

    def execute(self, text):
        self.statement(self.extra, text)

    # The checks, in the order of checks.txt.

    def check_connect(self):
        self.connect_all()
        return self.all(lambda client: self.statement(client, "select 1, current_user::text, current_database()::text"))

    def check_transactions(self):
        return self.turns(12, lambda client, turn: self.library.work(client.session, client.number, turn))

    def check_autocommit(self):
        return self.turns(4, lambda client, turn: self.library.autocommit(client.session, client.number, turn))

    def check_types(self):
        return self.turns(4, lambda client, turn: self.library.types(client.session, client.number, 100 + turn))

    def check_unique_violation(self):
        return self.failing_twice(self.library.unique_violation, 200)

    def check_savepoint_error(self):
        return self.failing_twice(self.library.savepoint_error, 300)

    def failing_twice(self, fail, first):
        def once(client, turn):
            low = first + 2 * turn
            error = fail(client.session, values(client.number, low), values(client.number, low + 1))
            text = f"select id, label from {self.table} where client = %s and id >= %s order by id"
            return [error, self.statement(client, text, client.number, row_id(client.number, low))]
        return self.turns(3, once)

    def check_prepared_reuse(self):
        def once(client, turn):
            seen = []
            with self.library.transaction(client.session):
                for place in range(5):
                    text = STATEMENTS[(client.number * 5 + (place + turn) % 5 * 7) % len(STATEMENTS)]
                    seen += self.library.rows(client.session, text, turn)
            return seen
        return self.turns(8, once)

    def check_isolation(self):
        return self.turns(3, lambda client, turn: self.library.isolation(client.session))

    def check_batch(self):
        def once(client, turn):
            low = 400 + 20 * turn
            done = self.library.batch(client.session, [values(client.number, low + row) for row in range(20)])
            text = f"select count(*), sum(amount) from {self.table} where client = %s and id >= %s"
            return [done, self.statement(client, text, client.number, row_id(client.number, low))]
        return self.turns(2, once)

    def check_cursor(self):
        return self.turns(2, lambda client, turn: self.library.cursor(client.session))

    def check_session_settings(self):
        return self.all(self.settings_of)

    def settings_of(self, client):
        path = ["public, pg_catalog", "pg_catalog, public"][client.number % 2]
        settings = [f"set application_name = 'client {client.number}'",
                    f"set timezone = '{ZONES[client.number % len(ZONES)]}'",
                    f"set statement_timeout = '{20000 + client.number}ms'", f"set search_path = {path}"]
        [self.set_all, self.set_alone][client.number // 2 % 2](client, *settings)
        seen = []
        for turn in range(4):
            seen.append(self.statement(client, SHOW))
            pause(client.number, turn)
        name = self.statement(client, f"select set_config('application_name', 'again {client.number}', false)")
        pause(client.number, 4)
        return seen + [name, self.statement(client, SHOW)]

    def set_all(self, client, *texts):
        with self.library.transaction(client.session):
            for text in texts:
                self.library.rows(client.session, text)

    def set_alone(self, client, *texts):
        for text in texts:
            self.library.alone(client.session, text)

    def check_settings_undone(self):
        show = "select current_setting('statement_timeout'), current_setting('TimeZone'), current_setting('lock_timeout')"

        def once(client, turn):
            self.set_all(client, "set local statement_timeout = '25s'", "set local timezone = 'Asia/Tokyo'")
            pause(client.number, turn)
            seen = [self.statement(client, show)]
            try:
                with self.library.transaction(client.session):
                    self.library.rows(client.session, "set timezone = 'Asia/Tokyo'")
                    self.library.rows(client.session, "set lock_timeout = '26s'")
                    raise Undo
            except Undo:
                pause(client.number, turn + 1)
            seen.append(self.statement(client, show))
            self.set_all(client, "savepoint s", "set lock_timeout = '27s'", "rollback to savepoint s", "release savepoint s")
            pause(client.number, turn + 2)
            return seen + [self.statement(client, show)]
        return self.turns(2, once)

    def check_settings_reset(self):
        """Back to what the client asked for when it logged in."""
        each = ["reset application_name", "set timezone to default", "reset statement_timeout", "reset search_path"]
        resets = [each, ["reset all"], each, ["reset all"]]

        def once(client, turn):
            run = self.set_alone if turn >= 2 else self.set_all
            run(client, "set application_name = 'to be reset'", "set timezone = 'Asia/Tokyo'",
                "set statement_timeout = '28s'", "set search_path = pg_catalog, public")
            pause(client.number, turn)
            run(client, *resets[turn])
            pause(client.number, turn + 1)
            return self.statement(client, SHOW)
        return self.turns(4, once)

    def check_pool_checkout(self):
        with self.library.pool() as run:
            def once(client, turn):
                return run(client.number, turn)
            return self.turns(3, once)

    def check_listen_notify(self):
        channel = f"{self.table}_channel"

        def notify():
            self.others()
            other = self.clients[0]
            for payload in ("one", "two"):
                other.do(self.statement, other, f"select pg_notify('{channel}', '{payload}')")
            self.others()

        return self.with_extra(lambda: self.extra.do(self.library.listen, self.extra.session, channel, notify))

    def check_temp_table(self):
        return self.script("create temporary table scratch (n int)", "insert into scratch values (1), (2), (3)",
                           "select sum(n) from scratch", "insert into scratch select n + 3 from scratch returning n",
                           "select sum(n) from scratch", "drop table scratch", "select to_regclass('scratch')::text")

    def check_advisory_lock(self):
        key = sum(self.table.encode())
        other = self.clients[0]

        def alternating():
            seen = []
            for client, text in ((self.extra, f"select pg_advisory_lock({key})::text"),
                                 (other, f"select pg_try_advisory_xact_lock({key})"),
                                 (self.extra, "select count(*) from pg_locks where locktype = 'advisory'"
                                              f" and objid = {key} and pid = pg_backend_pid()"),
                                 (self.extra, f"select pg_advisory_unlock({key})"),
                                 (other, f"select pg_try_advisory_xact_lock({key})")):
                seen.append(client.do(self.statement, client, text))
                self.others()
            return seen
        return self.with_extra(alternating)

    def check_hold_cursor(self):
        return self.script("declare held cursor with hold for select g from generate_series(1, 10) g", "fetch 3 from held",
                           "fetch 4 from held", "close held", "select count(*) from pg_cursors where name = 'held'")

    def check_sequence_value(self):
        """Asked for in the transaction that drew the number, and again in later ones."""
        name = f"{self.table}_seq"

        def alternating():
            seen = []
            for text in (f"select setval('{name}', 1000)", f"select nextval('{name}'), currval('{name}')", f"select currval('{name}')",
                         "select lastval()"):
                seen.append(self.extra.do(self.statement, self.extra, text))
                self.others(f"select nextval('{name}')")
            return seen
        return self.with_extra(alternating)

    def check_sql_prepare(self):
        return self.script("prepare doubled (int) as select $1 * 2", "execute doubled (4)", "execute doubled (5)",
                           "deallocate doubled", "select count(*) from pg_prepared_statements where name = 'doubled'")

    def check_reconnect(self):
        self.disconnect_all()
        self.connect_all()
        return self.turns(3, lambda client, turn: self.library.work(client.session, client.number, 500 + turn))

    def check_no_leaks(self):
        """What a new client finds: nothing of what others did."""
        left = [
            SHOW, "select current_setting('lock_timeout'), current_setting('transaction_isolation')",
            "select count(*) from pg_listening_channels()",
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
            "select count(*) from pg_cursors where is_holdable",
            "select count(*) from pg_class where relpersistence = 't' and pg_table_is_visible(oid)",
            "select count(*) from pg_prepared_statements where from_sql",
        ]
        self.disconnect_all()
        self.connect_all()
        return self.all(lambda client: [self.statement(client, text) for text in left])


class Undo(Exception):
    """Ends a transaction that is to be rolled back."""


def main(library):
    """Runs every check; the exit code says whether all passed."""
    scenario = Scenario(library)
    scenario.prepare()
    passed = True
    for check in (Path(__file__).parent.parent / "checks.txt").read_text().split():
        passed = perform(check, getattr(scenario, f"check_{check}")) and passed
    scenario.disconnect_all()
    scenario.clear()
    sys.exit(0 if passed else 1)
