"""Every engine in its own process on the same files; results are compared value by value before anything is reported.

`BENCH_OFFLINE_EVENTS` is the number of events (a tenth as many labels); 10,000,000 is the size that budgets are about.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.offline import world
from benchmarks.request.peers import FOLDER, installed
from benchmarks.rounds import Measurement

EVENTS = int(os.environ.get("BENCH_OFFLINE_EVENTS", "1_000_000"))
ROUNDS = 3
MOST_BYTES = 4 * 10**9

Spent = dict[str, Any]


def measure() -> Iterator[Measurement]:
    """CPU seconds from files to values in memory, the least of interleaved rounds; all cores may be used."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world.write(folder, EVENTS)
        measurements = _interleaved(folder, ("candor", "polars", "duckdb"))
        yield from _beside_hands(measurements)
        yield from _growth(folder, measurements["candor"])
        yield from _late(folder, measurements["candor"])
        yield from _beside_feast(folder)


def _beside_hands(spent: dict[str, Spent]) -> Iterator[Measurement]:
    candor, size = spent["candor"], f"{EVENTS:,} events, {EVENTS // world.PER_LABEL:,} labels"
    peak = "peak memory, GB"
    yield _row("polars by hand", spent["polars"])
    yield _row("DuckDB by hand", spent["duckdb"])
    ratio = candor["cpu_s"] / spent["polars"]["cpu_s"]
    yield _row(size, candor, reference="polars by hand", ratio=ratio, budget=2.5, limits="ratio at most")
    yield Measurement("offline", peak, candor["peak_bytes"] / 1e9, budget=MOST_BYTES / 1e9, unit="GB")
    yield Measurement("offline", f"{peak}, polars by hand", spent["polars"]["peak_bytes"] / 1e9, unit="GB")
    yield Measurement("offline", f"{peak}, DuckDB by hand", spent["duckdb"]["peak_bytes"] / 1e9, unit="GB")


def _growth(folder: Path, full: Spent) -> Iterator[Measurement]:
    """Measure a tenth and three tenths of the events, and all of them with one customer who has a tenth."""
    for events, name in ((EVENTS // 10, "a tenth"), (EVENTS * 3 // 10, "three tenths")):
        world.write(folder, events)
        part = _spent("candor", folder)
        yield _row(f"{name} of the events", part)
        if events == EVENTS // 10:
            ratio = full["cpu_s"] / part["cpu_s"]
            yield Measurement("offline", "growth for ten times as many", ratio, unit="×")
    world.write(folder, EVENTS, hot=0.1)
    hot = _spent("candor", folder)
    yield _row("with one hot customer", hot, reference="without", ratio=hot["cpu_s"] / full["cpu_s"])


def _late(folder: Path, on_time: Spent) -> Iterator[Measurement]:
    """Measure late events: all by seconds, as live ones are, or one in twenty by a day."""
    for hot, name in ((0.0, ""), (0.1, ", one hot customer")):
        world.write(folder, EVENTS, hot=hot)
        plain = _spent("candor", folder) if hot else on_time
        for days, late in ((False, "every event known 2 s late"), (True, "5 % known a day late")):
            world.make_late(folder, days=days)
            spent = _spent("candor", folder)
            ratio = spent["cpu_s"] / plain["cpu_s"]
            yield _row(f"{late}{name}", spent, reference="none late", ratio=ratio)


def _beside_feast(folder: Path) -> Iterator[Measurement]:
    events = EVENTS // 5
    world.write_ready(folder, events)
    spent = []
    for _ in range(ROUNDS):
        candor = _spent("last_values", folder)
        spent.append((candor, _feast(folder)))
        _same(folder, "last_values", "feast")
    candor, feast = (
        min((pair[side] for pair in spent), key=lambda run: float(run["cpu_s"])) for side in (0, 1)
    )
    name = f"last of {world.FINISHED} values, {events:,} rows"
    yield _row("Feast on DuckDB, the same", feast)
    ratio = candor["cpu_s"] / feast["cpu_s"]
    yield _row(name, candor, reference="Feast on DuckDB", ratio=ratio, budget=0.35, limits="ratio at most")


def _interleaved(folder: Path, engines: tuple[str, ...]) -> dict[str, Spent]:
    rounds = [{engine: _spent(engine, folder) for engine in engines} for _ in range(ROUNDS)]
    for engine in engines[1:]:
        _same(folder, engines[0], engine)
    return {
        engine: min((spent[engine] for spent in rounds), key=lambda spent: float(spent["cpu_s"]))
        for engine in engines
    }


def _same(folder: Path, first: str, other: str) -> None:
    """Raise RuntimeError unless both results have the same rows and values, bit for bit."""
    values, other_values = (np.load(folder / f"{name}.npy") for name in (first, other))
    if not np.array_equal(values, other_values, equal_nan=True):
        raise RuntimeError(f"{first} and {other} differ: this comparison would compare nothing")


def _spent(engine: str, folder: Path) -> Spent:
    return _ran(sys.executable, "-m", "benchmarks.offline.engines", engine, str(folder))


def _feast(folder: Path) -> Spent:
    (folder / "registry.db").unlink(missing_ok=True)
    return _ran(
        str(installed("feast_offline") / "python"), str(FOLDER / "feast_offline" / "join.py"), str(folder)
    )


def _ran(*command: str) -> Spent:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    spent: Spent = json.loads(done.stdout.splitlines()[-1])
    return spent


def _row(name: str, spent: Spent, **options: Any) -> Measurement:
    return Measurement("offline", name, spent["cpu_s"], unit="s", **options)
