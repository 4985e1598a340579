"""`python -m benchmarks.items [--markdown]`: stored bytes, DynamoDB units and what a million of each costs.

Events of each profile arrive at its rate until the longest window is full; then DynamoDB units of the last commits
are counted. One event per commit is the most expensive; a batch of n events of one entity costs one commit, and its
markers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks import fleet
from benchmarks.items.weigh import PROFILES, SIZES, WINDOWS, Weight, weigh_job
from benchmarks.results import keep

COLUMNS: dict[str, Callable[[Weight], str]] = {
    "events of one entity": lambda weight: weight.profile,
    "windows": lambda weight: weight.windows,
    "aggregations": lambda weight: str(weight.aggregations),
    "items": lambda weight: str(weight.shards),
    "item bytes": lambda weight: f"{weight.item_bytes:,}",
    "at most": lambda weight: f"{weight.most_bytes:,}",
    "markers": lambda weight: "yes" if weight.markers else "no",
    "write units an event": lambda weight: f"{weight.write_units:g}",
    "read units a read": lambda weight: f"{weight.read_units:g}",
    "USD a million events": lambda weight: f"{weight.usd_per_million_events:.2f}",
    "USD a million reads": lambda weight: f"{weight.usd_per_million_reads:.2f}",
}


def markdown(weights: Sequence[Weight]) -> str:
    """Table in Markdown, as the documentation includes it."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    rows += [[column(weight) for column in COLUMNS.values()] for weight in weights]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every profile under every view; print the table, keep the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.items", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args(arguments)
    jobs = [(profile, windows, size) for profile in PROFILES for windows in WINDOWS for size in SIZES]
    weights = fleet.run(weigh_job, jobs, title="profiles", total=len(jobs), processes=2)
    priced = [
        {
            **asdict(weight),
            "usd_per_million_events": weight.usd_per_million_events,
            "usd_per_million_reads": weight.usd_per_million_reads,
        }
        for weight in weights
    ]
    keep("items", {"weights": priced})
    if options.markdown:
        print(markdown(weights))
        return
    table = Table(*COLUMNS, title="one event a commit")
    for weight in weights:
        table.add_row(*(column(weight) for column in COLUMNS.values()))
    Console(width=None if sys.stdout.isatty() else 180).print(table)


if __name__ == "__main__":
    main()
