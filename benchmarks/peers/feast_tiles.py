"""Feast's tiled windows on five events. Run with `pip install "feast==0.67.0"`.

One customer, windows of ten minutes in hops of five: prints what the tiles give at the end of each hop, and what
the events give.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from importlib import import_module
from importlib.metadata import version

WINDOW, HOP = timedelta(minutes=10), timedelta(minutes=5)
EVENTS = [(1, 5.0), (3, 7.0), (6, 6.0), (8, 5.0), (11, 7.0)]
"""(minute, amount)."""

FUNCTIONS = ("count", "sum", "max", "min", "mean", "var")


def main() -> None:
    """Aggregate by tiles and by hand."""
    pandas = import_module("pandas")
    aggregation = import_module("feast.aggregation").Aggregation
    tiles = import_module("feast.aggregation.tiling.orchestrator").apply_sawtooth_window_tiling
    windows = import_module("feast.aggregation.tiling.tile_subtraction").convert_cumulative_to_windowed
    start = pandas.Timestamp("2026-01-01")
    moments = [start + timedelta(minutes=minute) for minute, _ in EVENTS]
    events = pandas.DataFrame({"customer": "ann", "at": moments, "amount": [amount for _, amount in EVENTS]})
    asked = [
        aggregation(column="amount", function=name, time_window=WINDOW, slide_interval=HOP)
        for name in FUNCTIONS
    ]
    tiled = tiles(events.copy(), asked, ["customer"], "at", WINDOW, HOP)
    found = windows(tiled, ["customer"], "at", WINDOW, asked)
    sys.stdout.write(f"feast {version('feast')}\n")
    for row in found.to_dict("records"):
        inside = events[(events["at"] >= row["at"] - WINDOW) & (events["at"] < row["at"])]["amount"]
        for name, one in zip(FUNCTIONS, asked, strict=True):
            said, true = row[one.resolved_name(WINDOW)], getattr(inside, name)()
            sys.stdout.write(f"{row['at']:%H:%M} {name:5} tiles {said:.6g} events {true:.6g}\n")


if __name__ == "__main__":
    main()
