"""`python -m benchmarks.contention`: 16 processes write one busy merchant and 1,000 customers; 1 if a total is wrong.

Each process applies its events through `ingest` to dynoxide; some arrive a second time at another process, and
failed ones are redelivered. At the end count and sum of every entity must equal those of a plain loop over the
events.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import engine, fleet
from benchmarks.contention import lender, writer
from benchmarks.contention.writer import WriterJob, WriterResult
from benchmarks.reading import read_values
from benchmarks.results import keep
from candor.clock import MINUTE, SystemClock


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, compare, report."""
    options = _options(arguments)
    now = SystemClock().now_ms()
    jobs = [
        WriterJob(number, options.processes, options.events, options.customers, options.batch, now)
        for number in range(options.processes)
    ]
    total = options.processes * round(options.events * (1 + writer.SENT_AGAIN))
    with engine.own_engine():
        began = time.perf_counter()
        results = fleet.run(writer.work, jobs, title="contending writers", total=total)
        seconds = time.perf_counter() - began
        wrong = list(_differences(jobs, now + MINUTE))
    report = {**vars(options), **_figures(results, seconds), "wrong_totals": len(wrong)}
    keep("contention", report)
    _print(report)
    for line in wrong[:20]:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _differences(jobs: Sequence[WriterJob], q: int) -> Iterator[str]:
    """Line for each total that differs from that of a plain loop."""
    expected = lender.totals(
        event for job in jobs for event in lender.events_of(job.writer, job.events, job.customers, job.now_ms)
    )
    store = engine.store()
    for name, view in lender.VIEWS.items():
        indexes = {figure: _index(name, figure) for figure in ("count", "sum")}
        entities = sorted({entity for _, kind, entity in expected if kind == name})
        for entity, values in zip(entities, read_values(view, entities, q, store), strict=True):
            for figure, index in indexes.items():
                if values[index] != expected[figure, name, entity]:
                    yield f"{figure} of {name} {entity}: {values[index]:.0f}, not {expected[figure, name, entity]}"


def _index(view: str, figure: str) -> int:
    label = {"count": f"{view}.count.lifetime", "sum": f"{view}.sum_amount.lifetime"}[figure]
    return [feature.name for feature in lender.VIEWS[view].features].index(label)


def _figures(results: Sequence[WriterResult], seconds: float) -> dict[str, Any]:
    commits = {
        view: sum((result.commits[view] for result in results), Counter[str]()) for view in lender.VIEWS
    }
    deliveries = sum(result.deliveries for result in results)
    return {
        "seconds": round(seconds, 1),
        "deliveries": deliveries,
        "deliveries_per_s": round(deliveries / seconds),
        "redelivered": sum(result.failed for result in results),
        "causes": dict(sum((result.causes for result in results), Counter[str]())),
        "cpu_us_per_delivery": round(sum(result.cpu_ns for result in results) / deliveries / 1_000),
        "commits": {view: dict(counts) for view, counts in commits.items()},
        "retries_per_write": {
            view: round((counts.total() - counts["committed"]) / counts["committed"], 3)
            for view, counts in commits.items()
        },
    }


def _print(report: dict[str, Any]) -> None:
    table = Table("what", "value", title="many writers, few items")
    for name, value in report.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contention", description=__doc__)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--events", type=int, default=2_000, help="events of each process")
    parser.add_argument("--customers", type=int, default=1_000)
    parser.add_argument("--batch", type=int, default=10, help="deliveries in one call of ingest")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
