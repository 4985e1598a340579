"""`python -m benchmarks [--json] [score|request|…]`: run, print and keep the results; fails on a missed budget."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks import clocks, cold_start, decline, healing, read, rebuild, score, update
from benchmarks.offline import measure as offline
from benchmarks.request import measure as request
from benchmarks.results import keep
from benchmarks.rounds import Measurement

BENCHMARKS = {
    "request": request.measure,
    "score": score.measure,
    "decline": decline.measure,
    "cold_start": cold_start.measure,
    "update": update.measure,
    "read": read.measure,
    "rebuild": rebuild.measure,
    "healing": healing.measure,
    "clocks": clocks.measure,
    "offline": offline.measure,
}


def main(arguments: Sequence[str]) -> int:
    """Run the named benchmarks, or all; 1 if a budget was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="|".join(BENCHMARKS), help="which to run; all without names"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    rows = list(_run(options.names or list(BENCHMARKS)))
    text = keep("budgets", {"rows": [{**asdict(row), "ok": row.ok} for row in rows]})
    if options.json:
        print(text)
    else:
        _print(rows)
    missed = [row.name for row in rows if row.ok is False]
    for name in missed:
        print(f"budget missed: {name}", file=sys.stderr)
    return 1 if missed else 0


def _run(names: Sequence[str]) -> Iterator[Measurement]:
    for name in names:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        yield from BENCHMARKS[name]()


def _print(rows: Sequence[Measurement]) -> None:
    table = Table(
        "benchmark",
        "what",
        "value",
        "ratio",
        "to",
        "budget",
        title="CPU per call, median of interleaved rounds",
    )
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        kept = "" if row.budget is None else f"{row.limits} {row.budget:g}: {'met' if row.ok else 'MISSED'}"
        table.add_row(
            row.benchmark, row.name, f"{row.value:,.1f} {row.unit}", ratio, row.reference or "", kept
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
