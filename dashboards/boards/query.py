"""Queries: what every panel asks for, and how its series are called."""

from dataclasses import dataclass

# What the variables of a dashboard select. A matcher for each, so that "All" and several values work alike.
INSTANCE = 'instance=~"$instance"'
POOL = INSTANCE + ',database=~"$database",user=~"$user"'
FUNCTION = POOL + ',function=~"$function"'

# What tells pools apart; a pool of two proxies is two pools, as each has a queue of its own.
POOL_LABELS = "instance, database, user"
POOL_LEGEND = "{{database}}/{{user}} {{instance}}"
FUNCTION_LABELS = "database, user, function"
FUNCTION_LEGEND = "{{function}} ({{database}}/{{user}})"

# Grafana chooses a range that always holds at least four scrapes.
RANGE = "[$__rate_interval]"


@dataclass(frozen=True)
class Query:
    """An expression and the name of its series. A table takes the values of one moment."""

    expr: str
    legend: str
    instant: bool = False
    heatmap: bool = False


def rate(metric, matchers, by=""):
    """A counter's increase in a second, summed over all labels but those of `by`."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{matchers}}}{RANGE}))"


def quantile(share, histogram, matchers, by=""):
    """A quantile of a histogram; `by` are the labels that are kept."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(histogram + '_bucket', matchers, labels)})"


def quantiles(histogram, matchers, of=""):
    """Median, 90th and 99th percentile of a histogram, over everything that is selected."""
    prefix = f"{of} " if of else ""
    shares = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    return [Query(quantile(share, histogram, matchers), prefix + name) for name, share in shares]


def mean(histogram, matchers, by=""):
    """The mean of a histogram; nothing, and not NaN, where nothing was observed."""
    total, count = (rate(f"{histogram}_{part}", matchers, by) for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"
