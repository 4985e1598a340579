"""Score of one row: our binding of LightGBM's C API against a C loop and the Python package, with the same bits.

Warm, rows in turn; and cache-cold, as a sandbox that idled sees it: 64 MB are written between calls.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Self

import lightgbm
import numpy as np

from benchmarks.rounds import Measurement
from candor.model.lightgbm import Booster, library_path

FEATURES = 120
ROWS = 2_000
COLD_ROWS = 50
ROUNDS = 9
EVICTED = 64 * 1024 * 1024
SIZES = ((100, 31, 1.25), (500, 63, 1.10))
"""(trees, leaves, budget against the C loop): a small model and the largest with a budget."""

_SOURCE = Path(__file__).parent / "request" / "c_loop.c"


def measure() -> Iterator[Measurement]:
    """All ways for each model size. Raises AssertionError if a single bit differs; needs a C compiler (`cc`)."""
    random = np.random.default_rng(7)
    rows = random.normal(size=(ROWS, FEATURES))
    rows[random.random(rows.shape) < 0.1] = np.nan
    with tempfile.TemporaryDirectory() as folder:
        program = _compiled(Path(folder))
        for trees, leaves, budget in SIZES:
            reference = _train(rows, trees, leaves)
            model = Path(folder) / "model.txt"
            reference.save_model(model)
            ours = Booster(model.read_text(encoding="utf-8"))
            expected = np.asarray(reference.predict(rows, raw_score=True, num_threads=1)).tolist()
            assert [ours.raw(row) for row in rows] == expected, "the two ways differ"
            size = f"{trees} trees x {leaves} leaves"
            yield from _warm(size, budget, [program, model], ours, reference, rows)
            yield from _cold(size, [program, model], ours, rows[:COLD_ROWS])


def _warm(
    size: str,
    budget: float,
    command: Sequence[Path],
    ours: Booster,
    reference: lightgbm.Booster,
    rows: np.ndarray,
) -> Iterator[Measurement]:
    loop, binding, package = (
        f"C loop, {size}",
        f"candor.model.Booster.raw, {size}",
        f"Booster.predict, {size}",
    )
    with tempfile.NamedTemporaryFile() as held, _Loop(command, rows, held.name, 0) as looped:
        spent = _medians(
            {
                loop: looped.round,
                binding: _timed(_by_binding(ours, vectors(rows))),
                package: _timed(_by_package(reference, rows)),
            }
        )
    yield Measurement("score", loop, spent[loop])
    yield Measurement(
        "score", binding, spent[binding], loop, spent[binding] / spent[loop], budget, limits="ratio at most"
    )
    yield Measurement("score", package, spent[package], loop, spent[package] / spent[loop])


def _cold(size: str, command: Sequence[Path], ours: Booster, rows: np.ndarray) -> Iterator[Measurement]:
    loop, binding = f"C loop, cache-cold, {size}", f"candor.model.Booster.raw, cache-cold, {size}"
    with tempfile.NamedTemporaryFile() as held, _Loop(command, rows, held.name, EVICTED) as looped:
        spent = _medians({loop: looped.round, binding: lambda: _evicted(ours, vectors(rows))})
    yield Measurement("score", loop, spent[loop])
    yield Measurement("score", binding, spent[binding], loop, spent[binding] / spent[loop])


def _medians(calls: dict[str, Callable[[], float]]) -> dict[str, float]:
    """µs of each, rounds interleaved; the first one warms."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            spent = call()
            if turn > 0:
                samples[name].append(spent)
    return {name: median(durations) for name, durations in samples.items()}


class _Loop:
    """The C program with its rows; a round answers µs of CPU per call."""

    def __init__(self, command: Sequence[Path], rows: np.ndarray, held: str, evicted: int) -> None:
        Path(held).write_bytes(np.ascontiguousarray(rows).tobytes())
        arguments = [*map(str, command), held, str(rows.shape[1]), str(evicted)]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"OMP_NUM_THREADS": "1"}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def round(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline()) / 1_000


def _compiled(folder: Path) -> Path:
    """The C loop, linked with the library that serves."""
    library, program = Path(library_path()), folder / "c_loop"
    command = ["cc", "-O2", "-o", str(program), str(_SOURCE), str(library), f"-Wl,-rpath,{library.parent}"]
    subprocess.run(command, check=True)
    return program


def vectors(rows: np.ndarray) -> list[array[float]]:
    """Rows in the form of a decision's values."""
    return [array("d", row) for row in rows]


def _evicted(booster: Booster, rows: list[array[float]]) -> float:
    spent, other = 0, np.zeros(EVICTED, dtype=np.uint8)
    for row in rows:
        other += 1
        before = time.process_time_ns()
        booster.raw(row)
        spent += time.process_time_ns() - before
    return spent / len(rows) / 1_000


def _timed(call: Callable[[], int]) -> Callable[[], float]:
    def timed() -> float:
        before = time.process_time_ns()
        units = call()
        return (time.process_time_ns() - before) / units / 1_000

    return timed


def _by_binding(booster: Booster, values: list[array[float]]) -> Callable[[], int]:
    def call() -> int:
        for row in values:
            booster.raw(row)
        return len(values)

    return call


def _by_package(booster: lightgbm.Booster, rows: np.ndarray) -> Callable[[], int]:
    single = [rows[place : place + 1] for place in range(len(rows))]

    def call() -> int:
        for row in single:
            booster.predict(row, raw_score=True, num_threads=1)
        return len(single)

    return call


def _train(rows: np.ndarray, trees: int, leaves: int) -> lightgbm.Booster:
    random = np.random.default_rng(11)
    risk = np.nan_to_num(rows[:, :10]).sum(axis=1) + random.normal(size=len(rows))
    parameters = {
        "objective": "binary",
        "num_leaves": leaves,
        "min_data_in_leaf": 5,
        "min_sum_hessian_in_leaf": 0.0,
        "learning_rate": 0.01,  # so slow that the last tree has as many leaves as the first
        "feature_fraction": 0.2,
        "max_bin": 63,
        "num_threads": 1,
        "verbosity": -1,
    }
    return lightgbm.train(parameters, lightgbm.Dataset(rows, risk > 1.0), num_boost_round=trees)
