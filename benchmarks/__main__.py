"""`python -m benchmarks [--json] [score|update …]`: run, print the table or JSON, keep the JSON in benchmarks/results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import score, update
from benchmarks.rounds import Row

BENCHMARKS = {"score": score.measure, "update": update.measure}
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str]) -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="score|update", help="which to run; all without names")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    rows = list(_run(options.names or list(BENCHMARKS)))
    report = {"machine": _machine(), "rows": [asdict(row) for row in rows]}
    text = json.dumps(report, indent=2)
    _keep(text)
    if options.json:
        print(text)
    else:
        _print(rows)


def _run(names: Sequence[str]) -> Iterator[Row]:
    for name in names:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        yield from BENCHMARKS[name]()


def _machine() -> dict[str, str | int | None]:
    return {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}


def _keep(text: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json").write_text(
        text + "\n", encoding="utf-8"
    )


def _print(rows: Sequence[Row]) -> None:
    table = Table(
        "benchmark", "what", "CPU µs", "ratio", "against", title="CPU per call, median of interleaved rounds"
    )
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.benchmark, row.name, f"{row.cpu_us:.1f}", ratio, row.against or "")
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
