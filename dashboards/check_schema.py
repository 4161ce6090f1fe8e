#!/usr/bin/env python3
"""Compares the dashboards with Grafana's own schema, as its Foundation SDK has it: every key is known, and has a value of
its type. Needs what `requirements.txt` names; `scripts/setup-prometheus.sh` installs it."""

import enum
import json
import sys
import types
import typing
import warnings
from pathlib import Path

# The SDK prefers the next format, which Grafana before 12 does not read.
warnings.simplefilter("ignore", DeprecationWarning)

from grafana_foundation_sdk.models import (  # noqa: E402 (the warning comes with the import)
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)

KINDS = {"heatmap": heatmap, "stat": stat, "table": table, "timeseries": timeseries}


def faults(value, hint, path):
    """What is wrong with a value that should be of this type."""
    origin = typing.get_origin(hint)
    if hint in (object, typing.Any):
        return []
    if origin in (typing.Union, types.UnionType):
        attempts = [faults(value, part, path) for part in typing.get_args(hint)]
        return min(attempts, key=len)
    if origin is typing.Literal:
        return [] if value in typing.get_args(hint) else [f"{path}: {value!r} is none of {typing.get_args(hint)}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{path}: no list"]
        return [fault for at, one in enumerate(value) for fault in faults(one, typing.get_args(hint)[0], f"{path}[{at}]")]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{path}: no object"]
        return [fault for key, one in value.items() for fault in faults(one, typing.get_args(hint)[1], f"{path}.{key}")]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [one.value for one in hint]
        return [] if value in values else [f"{path}: {value!r} is none of {values}"]
    if hint is float:
        return [] if isinstance(value, int | float) and not isinstance(value, bool) else [f"{path}: {value!r} is no number"]
    if hint in (str, int, bool, type(None)):
        return [] if type(value) is hint else [f"{path}: {value!r} is no {hint.__name__}"]
    return object_faults(value, hint, path)


def object_faults(value, model, path):
    """The same for an object and the class that describes it."""
    if not isinstance(value, dict):
        return [f"{path}: no object"]
    hints = {plain(name): hint for name, hint in typing.get_type_hints(model).items()}
    found = []
    for key, one in value.items():
        hint = hints.get(key.lower())
        if hint is None:
            found.append(f"{path}: {model.__name__} has no {key!r}")
        elif key == "options" and model is dashboard.Panel:
            found += object_faults(one, KINDS[value["type"]].Options, f"{path}.options")
        elif key == "targets" and model is dashboard.Panel:
            for at, target in enumerate(one):
                found += object_faults(target, prometheus.Dataquery, f"{path}.targets[{at}]")
        else:
            found += faults(one, hint, f"{path}.{key}")
    if model is dashboard.Panel and (custom := value["fieldConfig"]["defaults"].get("custom")):
        found += object_faults(custom, KINDS[value["type"]].FieldConfig, f"{path}.fieldConfig.defaults.custom")
    return found


def plain(name):
    """The SDK's name of a key, so that it equals the key in small letters: grid_pos, type_val."""
    return name.removesuffix("_val").replace("_", "").lower()


def main():
    paths = sorted(Path(__file__).resolve().parent.glob("*.json"))
    if not paths:
        sys.exit("there are no dashboards to check")
    found = []
    for path in paths:
        made = json.loads(path.read_text(encoding="utf-8"))
        # A union of the two kinds of panel would report the faults of the wrong one.
        panels = made.pop("panels")
        found += object_faults(made, dashboard.Dashboard, path.name)
        for panel in panels:
            model = dashboard.RowPanel if panel["type"] == "row" else dashboard.Panel
            found += object_faults(panel, model, f"{path.name}: {panel['title']}")
    for fault in found:
        print(fault, file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
