"""SQLAlchemy's ORM with psycopg. The argument is the pool: NullPool, which connects for each transaction, or QueuePool.

Each client has an engine of its own, as a function instance has; QueuePool then holds one connection. The checks that are
the same for all libraries keep a connection from one transaction to the next."""

import os
import sys
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from scenario import COLUMNS, Library, main, moment, refusal, row_id, values

POOL = sys.argv[1]
TABLE = f"default_sqlalchemy_{POOL.lower()}"
URL = sa.URL.create("postgresql+psycopg", os.environ["PGUSER"], os.environ["PGPASSWORD"], os.environ["PGHOST"],
                    int(os.environ["PGPORT"]), os.environ["PGDATABASE"])


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = TABLE
    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    client: Mapped[int]
    label: Mapped[str]
    amount = mapped_column(sa.Numeric(12, 2))
    data = mapped_column(JSONB)
    tags = mapped_column(ARRAY(sa.Text))
    seen = mapped_column(sa.DateTime(timezone=True))
    flag: Mapped[bool]
    ratio = mapped_column(sa.Double)
    mood = mapped_column(sa.Enum("calm", "wild", name=f"{TABLE}_mood"))


def fields(row):
    return [getattr(row, name) for name in COLUMNS]


def refused(error):
    return refusal(error.orig, error.orig.sqlstate, error.orig.diag.constraint_name)


class Client:
    def __init__(self):
        self.engine = sa.create_engine(URL, poolclass=getattr(sa, POOL))
        self.kept = None

    def give_back(self):
        """The engine, with its one connection free."""
        if self.kept is not None:
            self.kept.close()
            self.kept = None
        return self.engine

    def connection(self):
        if self.kept is None:
            self.kept = self.engine.connect()
        return self.kept


class SQLAlchemy(Library):
    table = TABLE
    # With NullPool each connects.
    thinned = 3 if POOL == "NullPool" else 1

    def connect(self, number):
        client = Client()
        # Connected outside the handler: the first connection of an engine looks around at the server.
        with client.engine.connect():
            return client

    def close(self, client):
        client.give_back().dispose()

    def transaction(self, client):
        return client.connection().begin()

    def rows(self, client, text, *values):
        result = client.kept.exec_driver_sql(text, values or None)
        return [list(row) for row in result] if result.returns_rows else []

    def alone(self, client, text):
        driver = client.connection().connection.driver_connection
        driver.autocommit = True
        driver.execute(text)
        driver.autocommit = False

    def work(self, client, number, turn):
        with Session(client.give_back()) as session, session.begin():
            session.add(Row(**values(number, turn)))
            session.flush()
            row = session.execute(sa.select(Row.label, Row.amount).where(Row.id == row_id(number, turn))).one()
            changed = session.execute(sa.update(Row).where(Row.client == number).values(amount=Row.amount + 1.5)).rowcount
            summed = session.execute(sa.select(sa.func.count(), sa.func.sum(Row.amount)).where(Row.client == number)).one()
            seen = [list(row), changed, list(summed)]
            if turn % 3 == 0:
                latest = sa.select(Row.id).where(Row.client == number).order_by(Row.seen.desc()).limit(2)
                seen.append(list(session.scalars(latest)))
            return seen

    def autocommit(self, client, number, turn):
        with client.give_back().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            own = Row.id == row_id(number, turn)
            changed = connection.execute(sa.update(Row).where(own).values(flag=~Row.flag)).rowcount
            row = connection.execute(sa.select(Row.label, Row.flag).where(own)).one()
            return [changed, list(row), connection.scalar(sa.text("select now() is not null"))]

    def types(self, client, number, turn):
        with Session(client.give_back()) as session:
            session.add(Row(**values(number, turn)))
            session.commit()
            # Read again, in a transaction of its own: a commit expires what the session has.
            row = session.get(Row, row_id(number, turn))
            found = sa.select(sa.func.count()).where(
                Row.client == number, Row.mood.in_(["calm", "wild"]), Row.seen == moment(turn),
                Row.tags.contains([f"t{turn}"]), Row.data["turn"].as_integer() == turn)
            return [fields(row), session.scalar(found)]

    def unique_violation(self, client, row, again):
        try:
            with Session(client.give_back()) as session, session.begin():
                session.add(Row(**row))
                session.flush()
                session.execute(sa.insert(Row).values(**row))
        except sa.exc.IntegrityError as error:
            failure = refused(error)
        with Session(client.give_back()) as session, session.begin():
            session.add_all([Row(**row), Row(**again)])
        return failure

    def savepoint_error(self, client, row, again):
        with Session(client.give_back()) as session, session.begin():
            session.add(Row(**row))
            session.flush()
            try:
                with session.begin_nested():
                    session.execute(sa.insert(Row).values(**row))
            except sa.exc.IntegrityError as error:
                failure = refused(error)
            session.add(Row(**again))
        return failure

    def isolation(self, client):
        seen = []
        for options in ({"isolation_level": "SERIALIZABLE", "postgresql_readonly": True}, {}):
            with client.give_back().connect().execution_options(**options) as connection, connection.begin():
                seen.append(connection.scalar(sa.text("show transaction_isolation")))
                seen.append(connection.scalar(sa.text("show transaction_read_only")))
        return seen

    def batch(self, client, rows):
        # One INSERT of many rows with RETURNING, as the ORM does by itself.
        with Session(client.give_back()) as session, session.begin():
            inserted = session.scalars(sa.insert(Row).returning(Row.id, sort_by_parameter_order=True), rows)
            return len(inserted.all())

    def cursor(self, client):
        # A cursor of the server's, with a name.
        numbers = sa.select(sa.func.generate_series(1, 1000).column_valued("g"))
        with Session(client.give_back()) as session, session.begin():
            portions = session.scalars(numbers, execution_options={"yield_per": 100}).partitions()
            return [sum(portion) for portion in portions]

    @contextmanager
    def pool(self):
        engine = sa.create_engine(URL, poolclass=getattr(sa, POOL), pool_pre_ping=True,
                                  **({"pool_size": 4, "max_overflow": 0, "pool_timeout": 60} if POOL == "QueuePool" else {}))

        def run(number, turn):
            with engine.connect() as connection:
                # Given back within its transaction: the pool rolls back.
                return list(connection.execute(sa.select(sa.func.count()).where(Row.client == number)).one())
        try:
            yield run
        finally:
            engine.dispose()

    def listen(self, client, channel, notify):
        connection = client.give_back().connect().execution_options(isolation_level="AUTOCOMMIT")
        with connection:
            connection.execute(sa.text(f"listen {channel}"))
            notify()
            got = [note.payload for note in connection.connection.driver_connection.notifies(timeout=20, stop_after=2)]
            connection.execute(sa.text(f"unlisten {channel}"))
            return [got, connection.scalar(sa.text("select 'usable'"))]


main(SQLAlchemy())
