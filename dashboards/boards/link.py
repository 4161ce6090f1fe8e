"""Links from a panel to where one looks next: another dashboard, or the traces of what was slow."""

import json
from urllib.parse import quote

from .panel import TRACES


def slow_traces(longer_than):
    """Explore, on the spans of pgcorral that took longer, in the time that the dashboard shows.

    Metrics have no trace identifiers (Prometheus' text format has no place for exemplars), so the link asks for what a
    trace of such a wait looks like instead of naming one."""
    pane = {
        "datasource": TRACES["uid"],
        "queries": [
            {
                "refId": "A",
                "datasource": TRACES,
                "queryType": "traceql",
                "query": f'{{resource.service.name="pgcorral" && duration>{longer_than}}}',
            }
        ],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    return {
        "title": f"Traces that took longer than {longer_than}",
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
