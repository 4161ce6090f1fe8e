"""A dashboard: variables, annotations, links to the others, and panels in lines."""

from .panel import DATASOURCE

# What Grafana 12 writes; older ones read it, too, and newer ones migrate it.
SCHEMA_VERSION = 42
COLUMNS = 24
TAG = "pgcorral"

# By which metric each variable finds its values, and which earlier variables narrow it down.
QUERIES = {
    "instance": ("Instance", "pgcorral_build_info"),
    "database": ("Database", 'pgcorral_pool_limit{instance=~"$instance"}'),
    "user": ("User", 'pgcorral_pool_limit{instance=~"$instance",database=~"$database"}'),
    "function": (
        "Function",
        'pgcorral_function_servers{instance=~"$instance",database=~"$database",user=~"$user"}',
    ),
}


class Board:
    """Collects lines of panels from top to bottom."""

    def __init__(self, name, title, description, variables):
        self.name = name
        self.title = title
        self.description = description
        self.variables = variables
        self.panels = []
        self.top = 0

    def row(self, title):
        """A heading across the page."""
        place = {"x": 0, "y": self.top, "w": COLUMNS, "h": 1}
        self.panels.append(
            {
                "id": len(self.panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        self.top += 1

    def line(self, height, *panels):
        """Panels of the same width side by side."""
        width, rest = divmod(COLUMNS, len(panels))
        if rest:
            raise ValueError(f"{self.name}: {len(panels)} panels do not fill a line")
        for at, panel in enumerate(panels):
            place = {"x": at * width, "y": self.top, "w": width, "h": height}
            self.panels.append(panel.json(len(self.panels) + 1, place))
        self.top += height

    def json(self):
        """The dashboard as Grafana has it."""
        return {
            "uid": f"pgcorral-{self.name}",
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "timezone": "browser",
            "editable": True,
            "graphTooltip": 1,
            "time": {"from": "now-1h", "to": "now"},
            "refresh": "10s",
            "schemaVersion": SCHEMA_VERSION,
            "fiscalYearStartMonth": 0,
            "templating": {"list": datasources() + [variable(name) for name in self.variables]},
            "annotations": {"list": annotations()},
            "links": [others()],
            "panels": self.panels,
        }


def datasources():
    """Where the metrics are, and where the traces are, for those who have any."""
    kinds = (("datasource", "Metrics", "prometheus"), ("traces", "Traces", "tempo"))
    return [
        {
            "type": "datasource",
            "name": name,
            "label": label,
            "query": kind,
            "hide": 0,
            "includeAll": False,
            "multi": False,
            "options": [],
            "refresh": 1,
            "regex": "",
        }
        for name, label, kind in kinds
    ]


def variable(name):
    """A choice of label values; all of them to begin with."""
    label, series = QUERIES[name]
    query = f"label_values({series},{name})"
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"Variable-{name}"},
        # Functions come and go: the values are read again with the time range.
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "options": [],
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "regex": "",
    }


def annotations():
    """What an operator has done himself, as marks in every panel."""
    chosen = 'instance=~"$instance"'
    return [
        annotation(
            "Reloads",
            "blue",
            f"changes(pgcorral_config_reload_timestamp_seconds{{{chosen}}}[1m]) > 0",
            "{{instance}} has read its configuration",
        ),
        annotation(
            "Refused reloads",
            "red",
            f'changes(pgcorral_reloads_total{{{chosen},result="failed"}}[1m]) > 0',
            "{{instance}} was given a configuration with faults, and has changed nothing",
        ),
        annotation("Drains", "orange", f"pgcorral_draining{{{chosen}}} == 1", "{{instance}} drains"),
    ]


def annotation(name, color, expr, text):
    """Marks for as long as the expression has a value."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        # As long as the range of `changes`, so that no change falls between two looks.
        "step": "60s",
        "titleFormat": name,
        "textFormat": text,
        "tagKeys": "instance",
    }


def others():
    """The other dashboards, with the same variables and time."""
    return {
        "type": "dashboards",
        "title": "pgcorral",
        "tags": [TAG],
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }
