"""A function whose psycopg is instrumented by OpenTelemetry, with sqlcommenter. Prints one line for each transaction: what
it is, its trace, and the spans of the instrumentation in it."""

import sys

import psycopg
from opentelemetry import trace
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
PsycopgInstrumentor().instrument(enable_commenter=True)
tracer = trace.get_tracer("function")


def plain(connection):
    connection.autocommit = True
    assert connection.execute("select 1").fetchone() == (1,)


def with_parameters(connection):
    connection.autocommit = True
    assert connection.execute("select %s::int", (2,)).fetchone() == (2,)


def with_a_semicolon(connection):
    connection.autocommit = True
    assert connection.execute("select 3;").fetchone() == (3,)


def transaction(connection):
    connection.autocommit = False
    for number in range(3):
        assert connection.execute("select %s::int", (number,)).fetchone() == (number,)
    connection.commit()


def prepared(connection):
    connection.autocommit = True
    assert connection.execute("select %s::int + 1", (3,), prepare=True).fetchone() == (4,)


connection = psycopg.connect(sys.argv[1])
for function in (plain, with_parameters, with_a_semicolon, transaction, prepared):
    exporter.clear()
    with tracer.start_as_current_span(function.__name__) as root:
        function(connection)
    ids = [format(s.context.span_id, "016x") for s in exporter.get_finished_spans() if s.kind == trace.SpanKind.CLIENT]
    print(function.__name__, format(root.get_span_context().trace_id, "032x"), *ids)
