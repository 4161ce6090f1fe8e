"""Links from a panel to where one looks next: another dashboard, or the traces of what was slow."""

import json
from urllib.parse import quote

from .panel import TRACES


# What pgcorral's spans say: the wait as an attribute, the function as its clients call it.
SPANS = 'resource.service.name="pgcorral"'
FUNCTION = 'span.pgcorral.function="${__field.labels.function}"'


def slow_waits(milliseconds, *conditions):
    """The traces of transactions that waited longer than this for a server connection."""
    query = f"span.pgcorral.wait_ms>{milliseconds}"
    return traces(f"Traces that waited longer than {milliseconds} ms", query, *conditions)


def slow_spans(longer_than, *conditions):
    """The traces of transactions that took longer than this, their waits included."""
    return traces(f"Traces that took longer than {longer_than}", f"duration>{longer_than}", *conditions)


def traces(title, *conditions):
    """Explore, on the spans of pgcorral of which this is true, in the time that the dashboard shows.

    The metrics name no traces (Prometheus' text format has no place for exemplars), so the link says what the traces of
    such a moment look like instead."""
    pane = {
        "datasource": TRACES["uid"],
        "queries": [
            {
                "refId": "A",
                "datasource": TRACES,
                "queryType": "traceql",
                "query": "{" + " && ".join((SPANS, *conditions)) + "}",
            }
        ],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    return {
        "title": title,
        "url": "/explore?schemaVersion=1&orgId=1&panes=" + in_a_url(json.dumps({"slow": pane})),
        "targetBlank": True,
    }


def in_a_url(text):
    """Percent-encoded, but for the variables: Grafana replaces them in the text of the link, and only as `${name}`."""
    pieces = text.split("${")
    coded = [quote(pieces[0], safe="")]
    for piece in pieces[1:]:
        name, rest = piece.split("}", 1)
        coded.append("${" + name + "}" + quote(rest, safe=""))
    return "".join(coded)


def pool():
    """The pool that a series belongs to, on the dashboard of pools."""
    return {
        "title": "This pool",
        "url": "/d/pgcorral-pools?${__url_time_range}&${datasource:queryparam}&${traces:queryparam}"
        "&var-instance=${__field.labels.instance}&var-database=${__field.labels.database}"
        "&var-user=${__field.labels.user}",
        "targetBlank": False,
    }


def function():
    """The function that a series belongs to, on the dashboard of functions."""
    return {
        "title": "This function",
        "url": "/d/pgcorral-functions?${__url_time_range}&${datasource:queryparam}&${traces:queryparam}"
        "&${instance:queryparam}&var-function=${__field.labels.function}",
        "targetBlank": False,
    }
