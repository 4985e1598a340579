"""CPU and throughput of one request: floor, prepared, full with its parts, pynamodb instead of the client, peers."""

from __future__ import annotations

import gc
import io
import os
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, redirect_stdout
from pathlib import Path
from statistics import median

from benchmarks.request import feast, full, peers
from benchmarks.request.floor import bytes_of, floor
from benchmarks.request.prepared import PreparedScorer, lean_store, pynamodb_store
from benchmarks.request.servers import Function, Server, load
from benchmarks.request.world import CUSTOMERS, ROOT, RequestWorld, proxied, world
from benchmarks.rounds import Measurement, interleaved
from benchmarks.score import vectors
from candor.model.lightgbm import Booster

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", str(CUSTOMERS)))
PREPARED = "prepared, awslambdaric"
FULL = "full, awslambdaric"
AGAINST_PREPARED: Mapping[str, float | None] = {
    "FastAPI + boto3 + LightGBM, 120 attributes": 3.0,
    "FastAPI + boto3 + LightGBM, packed items": 2.5,
    "BentoML + boto3 + LightGBM, 120 attributes": 5.0,
    "Feast get_online_features + LightGBM": None,
    "Feast feature server, read only": 10.0,
    "prepared by pynamodb, awslambdaric": None,
}
"""Lowest ratio of each peer's CPU to that of the prepared decision."""


def measure() -> Iterator[Measurement]:
    """Measure all systems against one stub. Raises RuntimeError where one does not answer."""
    with world() as services:
        yield from _in_process(services)
        yield from _served(services)


def _in_process(services: RequestWorld) -> Iterator[Measurement]:
    """Measure the prepared decision, its floor, and the parts of the full decision, without the runtime loop."""
    booster = Booster(services.model.read_text(encoding="utf-8"))
    prepared = PreparedScorer(lean_store(), booster)
    with redirect_stdout(io.StringIO()):
        wire = bytes_of(prepared, CUSTOMERS)
    rows = vectors(services.rows)
    gc.freeze()  # as a sandbox does that is ready
    calls = {
        "floor F": floor(booster, rows, wire, services.port),
        "prepared, in process": _by(prepared, ROUNDS),
        "prepared by pynamodb, in process": _by(PreparedScorer(pynamodb_store(), booster), ROUNDS),
        "score alone": _scores(booster, rows),
        **full.parts(),
    }
    spent = interleaved(calls, ROUNDS)
    for name, value in spent.items():
        ratio = value / spent["floor F"]
        limit = 2.5 if name == "prepared, in process" else None
        yield Measurement("request", name, value, "floor F", ratio, limit, limits="ratio at most")


def _by(prepared: PreparedScorer, rounds: int) -> Callable[[], int]:
    """Callable for each round. Its events are made beforehand: the shop writes and the runtime loop parses them."""
    events = [[proxied(customer) for customer in range(CUSTOMERS)] for _ in range(rounds + 1)]

    def call() -> int:
        with redirect_stdout(io.StringIO()):
            for event in events.pop():
                prepared.handle(event)
        return CUSTOMERS

    return call


def _scores(booster: Booster, rows: list[array[float]]) -> Callable[[], int]:
    def call() -> int:
        for row in rows:
            booster.raw(row)
        return len(rows)

    return call


def _served(services: RequestWorld) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        servers: dict[str, Server] = {}
        for name, start in _starts(services, Path(folder)).items():
            try:
                servers[name] = running.enter_context(closing(start()))
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                yield Measurement(
                    "request", f"{name}: NOT MEASURED", 0.0, PREPARED, 0.0, 1.0, limits="ratio at least"
                )
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for turn in range(ROUNDS + 1):
            for name, server in servers.items():
                spent, seconds = load(server, REQUESTS)
                if turn > 0:  # the first round warms
                    samples[name].append((spent / REQUESTS / 1_000, REQUESTS / seconds))
    spent_us = {name: median(cpu for cpu, _ in turns) for name, turns in samples.items()}
    for name, value in spent_us.items():
        yield _row(name, value, spent_us)
        rate = median(rate for _, rate in samples[name])
        yield Measurement("request", f"{name}: throughput, one client", rate, unit="requests/s")


def _row(name: str, value: float, spent: Mapping[str, float]) -> Measurement:
    if name == FULL:
        reference = "FastAPI + boto3 + LightGBM, packed items"
        return Measurement(
            "request", name, value, reference, value / spent[reference], 1.0, limits="ratio at most"
        )
    limit = AGAINST_PREPARED.get(name)
    return Measurement(
        "request", name, value, PREPARED, value / spent[PREPARED], limit, limits="ratio at least"
    )


def _starts(services: RequestWorld, folder: Path) -> dict[str, Callable[[], Server]]:
    code, environment = ROOT / "benchmarks/request/prepared_function", services.environment

    def log(name: str) -> Path:
        return folder / f"{name}.log"

    def function(name: str, code: Path, **more: str) -> Callable[[], Server]:
        return lambda: Function(name, code, {**environment, **more}, log(name))

    attributes, packed, bentoml, in_process, server, pynamodb = AGAINST_PREPARED
    return {
        PREPARED: function("prepared", code, PREPARED_STORE="lean"),
        pynamodb: function("pynamodb", code, PREPARED_STORE="pynamodb"),
        FULL: function("score", ROOT / "functions" / "score"),
        attributes: lambda: peers.fastapi("attributes", environment, log("attributes")),
        packed: lambda: peers.fastapi("packed", environment, log("packed")),
        bentoml: lambda: peers.bentoml(environment, log("bentoml")),
        in_process: lambda: feast.in_process(environment, log("feast")),
        server: lambda: feast.server(environment, log("feature-server")),
    }
