"""`python -m tests.worlds --worlds 5000`: compare online features, as-of features and the oracle over random worlds."""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.worlds.world import Difference, Result, live_seed

SHOWN = 10
"""Worlds of which the first difference is printed, at most."""


def main(arguments: Sequence[str]) -> int:
    """Live through the worlds; 0 if every answer was equal."""
    options = _options(arguments)
    worlds = 1 if options.seed is not None else options.worlds
    first = options.first if options.seed is None else options.seed
    began = time.monotonic()
    results = list(_watched(results_of(range(first, first + worlds), options.jobs), worlds))
    report = summary(results, time.monotonic() - began)
    differences = [result.differences[0] for result in results if result.differences]
    if options.json:
        sys.stdout.write(
            json.dumps({**report, "differing": [_entry(of) for of in differences[:SHOWN]]}) + "\n"
        )
    else:
        _print(report, differences)
    return 1 if differences else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.worlds", description=__doc__)
    parser.add_argument("--worlds", type=int, default=300, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them")
    parser.add_argument("--seed", type=int, help="this world alone")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.worlds < 1 or options.jobs < 1:
        parser.error("--worlds and --jobs are at least 1")
    return options


def results_of(seeds: Sequence[int], jobs: int) -> Iterator[Result]:
    """Observations of each world, in the order of the seeds."""
    if jobs == 1:
        yield from map(live_seed, seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(live_seed, seeds, chunksize=5)


def _watched(results: Iterable[Result], total: int) -> Iterator[Result]:
    """The results, under a bar that tells of differences."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[differing]} differ"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task, differing = progress.add_task("worlds", total=total, differing=0), 0
        for result in results:
            differing += bool(result.differences)
            progress.update(task, advance=1, differing=differing)
            yield result


def summary(results: Sequence[Result], seconds: float) -> dict[str, float]:
    """Figures over all worlds."""
    counts = sum((result.counts for result in results), Counter[str]())
    healing = [of for result in results for of in result.healing_s]
    return {
        "worlds": len(results),
        "seconds": round(seconds, 1),
        "worlds that differ": sum(bool(result.differences) for result in results),
        **dict(sorted(counts.items())),
        "planned view reads that were stale, %": _share(
            counts, "planned view reads, stale", "planned view reads"
        ),
        "items that were ever stale, %": _share(counts, "items ever stale", "items"),
        "healing, median simulated s": round(statistics.median(healing), 1) if healing else math.nan,
        "healing, 95th percentile simulated s": _percentile(healing, 95),
        "healing, worst simulated s": round(max(healing, default=math.nan), 1),
    }


def _share(counts: Counter[str], part: str, whole: str) -> float:
    return round(100 * counts[part] / counts[whole], 2) if counts[whole] else math.nan


def _percentile(values: Sequence[float], percent: int) -> float:
    return round(statistics.quantiles(values, n=100)[percent - 1], 1) if len(values) > 1 else math.nan


def _entry(of: Difference) -> dict[str, str | int]:
    return {**asdict(of), "repeat": _repeat(of)}


def _repeat(of: Difference) -> str:
    return f"python -m tests.worlds --seed {of.seed}"


def _print(report: dict[str, float], differences: Sequence[Difference]) -> None:
    console = Console()
    table = Table("figure", "value", title="online = as of = oracle", show_lines=False)
    table.columns[1].justify = "right"
    for what, figure in report.items():
        table.add_row(what, f"{figure:,}")
    console.print(table)
    for of in differences[:SHOWN]:
        console.print(
            f"[bold red]{of.what}[/] {of.view} of {of.token} at {of.q}, read at {of.clock}", highlight=False
        )
        console.print(
            f"  oracle {of.expected}\n  actual {of.actual}\n  {_repeat(of)}", markup=False, highlight=False
        )
    equal = report["worlds"] - report["worlds that differ"]
    console.print(f"{equal:,} of {report['worlds']:,} worlds are equal")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
