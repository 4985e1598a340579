"""`python -m benchmarks.fraud_handbook --data transactions.parquet --out <folder>`: online equals offline, or exit 1.

Every transaction goes as an event through `ingest` in disorder, a tenth twice, one in a hundred late by up to a
week. At the end of every hour every customer and terminal of which an event occurred or arrived is read.
`offline.sql` answers the same questions from the exported stream alone. The folder then holds all that a stranger
needs to compute it again: arrivals.parquet, online/, offline.sql and what that made of them, comparison.parquet.
`--verify` runs the comparison from these files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import engine, fleet
from benchmarks.bars import bars
from benchmarks.fraud_handbook import online, stream
from benchmarks.fraud_handbook.online import EntityPart, PartJob, Work
from benchmarks.results import keep

SQL = "offline.sql"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and compare, or compare again."""
    options = _options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.verify:
        report: dict[str, Any] = compare(options.out)
    else:
        with _store_of(options.store):
            report = run(options)
        keep("fraud_handbook", report)
        (options.out / "summary.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _print(report)
    return 1 if report["mismatches"] else 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The online side, then the offline side and the comparison; returns all figures."""
    transactions = stream.read_transactions(options.data, options.sample)
    deliveries = stream.delivered(transactions, options.seed)
    stream.write(deliveries, options.out / stream.ARRIVALS)
    shutil.rmtree(options.out / "online", ignore_errors=True)
    shutil.copyfile(Path(__file__).with_name(SQL), options.out / SQL)
    began = time.perf_counter()
    jobs = [
        PartJob(EntityPart(number, options.processes), options.store, options.out)
        for number in range(options.processes)
    ]
    # A delivery whose customer and terminal are in different parts is worked on in both.
    works = fleet.run(
        online.work,
        jobs,
        title="ingest and read",
        total=sum(online.deliveries_of(deliveries, job.part) for job in jobs),
    )
    seconds = time.perf_counter() - began
    shape = {
        "transactions": len(transactions["transaction"]),
        "deliveries": len(deliveries["arrival"]),
        "late": int(np.sum(deliveries["arrival"] - deliveries["occurred_at"] >= stream.DISORDER)),
        "store": options.store,
        "processes": options.processes,
        "seed": options.seed,
    }
    return {**shape, **compare(options.out), **_figures(works, shape["deliveries"], seconds)}


def compare(folder: Path) -> dict[str, int]:
    """Run the offline side in a folder; writes comparison.parquet. Values are equal if their bits are, NaN is NaN."""
    with chdir(folder), duckdb.connect() as database, bars() as progress:
        database.execute("SET enable_progress_bar = false")
        statements = database.extract_statements(Path(SQL).read_text(encoding="utf-8"))
        for statement in progress.track(statements, description="offline SQL"):
            result = database.execute(statement)
        reads, compared, mismatches = result.fetchone() or (0, 0, 0)
    return {"reads": reads, "compared": compared, "mismatches": mismatches}


@contextmanager
def _store_of(kind: str) -> Iterator[None]:
    if kind == "memory":
        yield
    else:
        with engine.own_engine():
            yield


def _figures(works: Sequence[Work], deliveries: int, seconds: float) -> dict[str, Any]:
    ingesting, reading, whole = (
        sum(getattr(work, name) for work in works) for name in ("ingest_ns", "read_ns", "whole_ns")
    )
    reads = sum(work.reads for work in works)
    return {
        "seconds": round(seconds, 1),
        "events_per_s": round(deliveries / seconds),
        "events_per_s_and_core_ingest_alone": round(deliveries / (ingesting / 1e9)),
        "cpu_us_per_event_ingest": round(ingesting / deliveries / 1_000, 1),
        "cpu_us_per_read": round(reading / reads / 1_000, 1),
        "cpu_us_per_event_whole": round(whole / deliveries / 1_000, 1),
        "peak_mib_per_process": [round(work.peak_bytes / 2**20) for work in works],
        "parts": [asdict(work) for work in works],
    }


def _print(report: dict[str, Any]) -> None:
    table = Table("what", "value", title="online against offline, bit for bit")
    for name, value in report.items():
        if name != "parts":
            table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    for part in report.get("parts", ()):
        for kind, sizes in part["item_bytes"].items():
            table.add_row(f"stored bytes of a {kind}: p50, p99, largest", ", ".join(map(str, sizes)))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fraud_handbook", description=__doc__)
    parser.add_argument("--data", type=Path, help="the handbook's transactions as one Parquet file")
    parser.add_argument("--out", type=Path, required=True, help="folder of all that is exported")
    parser.add_argument("--sample", type=int, help="about so many transactions, of whole customers")
    parser.add_argument("--store", choices=["memory", "dynoxide"], default="memory")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verify", action="store_true", help="compare again what is exported in the folder")
    options = parser.parse_args(arguments)
    if not options.verify and not options.data:
        parser.error(
            "--data is missing: name the handbook's transactions.parquet, or --verify an exported folder"
        )
    return options


if __name__ == "__main__":
    sys.exit(main())
