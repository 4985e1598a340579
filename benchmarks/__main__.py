"""`python -m benchmarks [--json] [score|update|read|rebuild …]`: run, print the table or JSON, keep the JSON in benchmarks/results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks import read, rebuild, score, update
from benchmarks.results import keep
from benchmarks.rounds import Row

BENCHMARKS = {
    "score": score.measure,
    "update": update.measure,
    "read": read.measure,
    "rebuild": rebuild.measure,
}


def main(arguments: Sequence[str]) -> None:
    """Run the named benchmarks, or all."""
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
    text = keep("budgets", {"rows": [{**asdict(row), "met": row.met} for row in rows]})
    if options.json:
        print(text)
    else:
        _print(rows)


def _run(names: Sequence[str]) -> Iterator[Row]:
    for name in names:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        yield from BENCHMARKS[name]()


def _print(rows: Sequence[Row]) -> None:
    table = Table(
        "benchmark",
        "what",
        "figure",
        "budget",
        "ratio",
        "against",
        title="CPU per call, median of interleaved rounds",
    )
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        budget = "" if row.budget is None else f"{row.budget:g} {row.unit}: {'met' if row.met else 'NOT met'}"
        table.add_row(
            row.benchmark, row.name, f"{row.figure:.1f} {row.unit}", budget, ratio, row.against or ""
        )
    Console(width=None if sys.stdout.isatty() else 180).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
