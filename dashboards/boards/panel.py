"""Panels. Each must say what it shows, in which unit, what its series are called and from which value on it is bad."""

from dataclasses import dataclass, field

from .query import Query

# Where no value is good or bad by itself: how much is done, who does it.
NO_THRESHOLDS = ()

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
TRACES = {"type": "tempo", "uid": "${traces}"}


@dataclass(frozen=True)
class Panel:
    """One panel. `thresholds` are pairs of the lowest value and its colour; below the first it is green, unless the first has no
    value."""

    kind: str
    title: str
    description: str
    unit: str
    thresholds: tuple
    queries: list
    options: dict
    custom: dict
    links: list = field(default_factory=list)
    lowest: float | None = 0
    highest: float | None = None
    decimals: int | None = None
    mappings: list = field(default_factory=list)
    overrides: list = field(default_factory=list)
    transformations: list = field(default_factory=list)

    def json(self, number, place):
        """The panel as Grafana has it, at a place of the grid."""
        if not (self.title and self.description and self.unit and self.queries):
            raise ValueError(f"{self.title!r} lacks a title, a description, a unit or a query")
        if missing := [query.expr for query in self.queries if not query.legend]:
            raise ValueError(f"{self.title!r} has series without a name: {missing}")
        made = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": place,
            "targets": [target(query, at) for at, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides},
            "options": self.options,
        }
        if self.transformations:
            made["transformations"] = self.transformations
        return made

    def defaults(self):
        """What holds for all series."""
        steps = [{"value": value, "color": color} for value, color in self.thresholds]
        if not steps or steps[0]["value"] is not None:
            steps.insert(0, {"value": None, "color": "green"})
        made = {
            "unit": self.unit,
            "thresholds": {"mode": "absolute", "steps": steps},
            "color": {"mode": "thresholds" if self.kind == "stat" else "palette-classic"},
            "mappings": self.mappings,
            "links": self.links,
        }
        if self.custom:
            made["custom"] = self.custom
        for key, value in (("min", self.lowest), ("max", self.highest), ("decimals", self.decimals)):
            if value is not None:
                made[key] = value
        return made


def target(query, at):
    """A query as Grafana has it."""
    kinds = {True: "table", False: "heatmap" if query.heatmap else "time_series"}
    return {
        "refId": chr(ord("A") + at),
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "format": kinds[query.instant],
        "instant": query.instant,
        "range": not query.instant,
    }


def series(title, description, unit, thresholds, queries, stacked=False, **more):
    """Lines over time; stacked, where their sum means something."""
    many = len(queries) > 1 or "{{" in queries[0].legend
    legend = {
        "showLegend": True,
        "displayMode": "table" if many else "list",
        "placement": "bottom",
        "calcs": ["lastNotNull", "max"] if many else [],
    }
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "lineInterpolation": "linear",
        "fillOpacity": 35 if stacked else 8,
        "gradientMode": "none",
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
    }
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    return Panel("timeseries", title, description, unit, thresholds, queries, options, custom, **more)


def stat(title, description, unit, thresholds, query, **more):
    """One number, coloured by its thresholds, with its last hour behind it."""
    options = {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "orientation": "auto",
        "textMode": "value",
        "wideLayout": True,
        "colorMode": "background",
        "graphMode": "area",
        "justifyMode": "auto",
        "showPercentChange": False,
    }
    return Panel("stat", title, description, unit, thresholds, [query], options, {}, **more)


def heatmap(title, description, unit, query):
    """How a histogram's observations are spread, over time."""
    options = {
        "calculate": False,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "steps": 64,
            "scale": "exponential",
            "exponent": 0.5,
            "fill": "dark-orange",
            "reverse": False,
        },
        "cellGap": 1,
        "rowsFrame": {"layout": "auto"},
        "yAxis": {"unit": unit, "axisPlacement": "left", "reverse": False},
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
        "legend": {"show": True},
        "showValue": "never",
        "filterValues": {"le": 1e-9},
    }
    return Panel("heatmap", title, description, unit, NO_THRESHOLDS, [query], options, {})


def table(title, description, unit, thresholds, columns, labels, sort, **more):
    """Rows by label, columns by query. Each of `columns` is a heading, a unit and an expression; one without a unit is there
    for its labels only."""
    queries = [Query(expr, heading, instant=True) for heading, _, expr in columns]
    names = {name: name.capitalize() for name in labels}
    hidden = {"Time": True}
    overrides = []
    for at, (heading, column_unit, _) in enumerate(columns):
        # As Grafana calls the values of several queries once their rows are merged.
        value = f"Value #{chr(ord('A') + at)}"
        if column_unit is None:
            hidden[value] = True
            continue
        names[value] = heading
        overrides.append(
            {
                "matcher": {"id": "byName", "options": heading},
                "properties": [{"id": "unit", "value": column_unit}],
            }
        )
    transformations = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": hidden,
                "indexByName": {name: at for at, name in enumerate(names)},
                "renameByName": names,
            },
        },
    ]
    options = {
        "showHeader": True,
        "cellHeight": "sm",
        "sortBy": [{"displayName": sort, "desc": True}],
    }
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False}
    return Panel(
        "table",
        title,
        description,
        unit,
        thresholds,
        queries,
        options,
        custom,
        overrides=overrides,
        transformations=transformations,
        **more,
    )
