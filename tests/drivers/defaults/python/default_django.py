"""Django's models and its PostgreSQL backend with psycopg; connections are kept (CONN_MAX_AGE), as a function keeps them.

Django connects once for each thread; it sets the time zone of the session if the server has another one."""

import os
from contextlib import contextmanager

import django
from django.conf import settings

from scenario import COLUMNS, Library, main, moment, refusal, row_id, values

TABLE = "default_django"

LOGIN = {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"],
    "PASSWORD": os.environ["PGPASSWORD"], "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
    "CONN_MAX_AGE": None,
}
POOLED = LOGIN | {"CONN_MAX_AGE": 0, "OPTIONS": {"pool": {"min_size": 4, "max_size": 4, "timeout": 60}}}

settings.configure(DATABASES={"default": LOGIN, "pooled": POOLED}, INSTALLED_APPS=["django.contrib.postgres"])
django.setup()

from django.contrib.postgres.fields import ArrayField  # noqa: E402 (needs the settings)
from django.db import IntegrityError, connection, connections, models, transaction  # noqa: E402


# The module has the name of a method below.
atomic = transaction.atomic


class Row(models.Model):
    id = models.BigIntegerField(primary_key=True)
    client = models.IntegerField()
    label = models.TextField()
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    data = models.JSONField()
    tags = ArrayField(models.TextField())
    seen = models.DateTimeField()
    flag = models.BooleanField()
    ratio = models.FloatField(null=True)
    mood = models.TextField()

    class Meta:
        app_label = "matrix"
        db_table = TABLE
        managed = False


def refused(error):
    return refusal(error, error.__cause__.sqlstate, error.__cause__.diag.constraint_name)


class Django(Library):
    table = TABLE

    # A session is nothing: `connection` is the one of the thread that asks.

    def connect(self, number):
        connection.ensure_connection()

    def close(self, session):
        connection.close()

    def transaction(self, session):
        return atomic()

    def rows(self, session, text, *values):
        with connection.cursor() as cursor:
            cursor.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []

    def alone(self, session, text):
        self.rows(session, text)

    @atomic
    def work(self, session, number, turn):
        Row.objects.create(**values(number, turn))
        mine = Row.objects.filter(client=number)
        row = mine.values_list("label", "amount").get(id=row_id(number, turn))
        changed = mine.update(amount=models.F("amount") + 1.5)
        summed = mine.aggregate(count=models.Count("id"), sum=models.Sum("amount"))
        seen = [row, changed, list(summed.values())]
        if turn % 3 == 0:
            seen.append(list(mine.order_by("-seen").values_list("id", flat=True)[:2]))
        return seen

    def autocommit(self, session, number, turn):
        mine = Row.objects.filter(id=row_id(number, turn))
        changed = mine.update(flag=models.Case(models.When(flag=True, then=False), default=True))
        return [changed, mine.values_list("label", "flag").get(), mine.exists()]

    def types(self, session, number, turn):
        with atomic():
            Row.objects.create(**values(number, turn))
            row = Row.objects.get(id=row_id(number, turn))
            found = Row.objects.filter(client=number, seen=moment(turn), tags__contains=[f"t{turn}"], data__turn=turn)
            return [[getattr(row, name) for name in COLUMNS], found.count()]

    def unique_violation(self, session, row, again):
        try:
            with atomic():
                Row.objects.create(**row)
                Row.objects.create(**row)
        except IntegrityError as error:
            failure = refused(error)
        with atomic():
            for each in (row, again):
                Row.objects.create(**each)
        return failure

    def savepoint_error(self, session, row, again):
        with atomic():
            Row.objects.create(**row)
            try:
                with atomic():
                    Row.objects.create(**row)
            except IntegrityError as error:
                failure = refused(error)
            Row.objects.create(**again)
        return failure

    def isolation(self, session):
        with atomic():
            self.rows(session, "set transaction isolation level serializable read only")
            seen = self.rows(session, "show transaction_isolation") + self.rows(session, "show transaction_read_only")
        with atomic():
            return seen + self.rows(session, "show transaction_isolation") + self.rows(session, "show transaction_read_only")

    def batch(self, session, rows):
        with atomic():
            created = Row.objects.bulk_create([Row(**row) for row in rows], batch_size=7)
            changed = Row.objects.bulk_update(created, ["label"], batch_size=9)
            return [len(created), changed, len(Row.objects.in_bulk([row["id"] for row in rows]))]

    def cursor(self, session):
        # A cursor of the server's, with a name.
        with atomic():
            mine = Row.objects.filter(client__lt=3, id__lt=row_id(3, 0)).order_by("id").values_list("id", flat=True)
            return [sum(1 for _ in mine.iterator(chunk_size=5)) > 20, list(mine.iterator(chunk_size=5))[0]]

    @contextmanager
    def pool(self):
        def run(number, turn):
            with atomic(using="pooled"):
                found = Row.objects.using("pooled").filter(client=number).count()
            # As at the end of a request.
            connections["pooled"].close()
            return found
        try:
            yield run
        finally:
            connections["pooled"].close_pool()

    def listen(self, session, channel, notify):
        with connection.cursor() as cursor:
            cursor.execute(f"listen {channel}")
        notify()
        got = [note.payload for note in connection.connection.notifies(timeout=20, stop_after=2)]
        with connection.cursor() as cursor:
            cursor.execute(f"unlisten {channel}")
        return [got, self.rows(session, "select 'usable'")]


main(Django())
