"""`python -m benchmarks.offline.on_spark [--events 1000000] [--labels 50000]`: Spark against the embedded engine.

A simulated lender with every aggregation over two entities, one of them hot, with voids, duplicates, disorder and
late events. Writes an archive as Firehose does, computes all features on both engines, compares them, and a sample
of rows with the naive oracle. Run it in Spark's environment: `make spark`, then `.cache/spark/bin/python -m
benchmarks.offline.on_spark`. Exits with 1 when a bit differs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from candor import Count, DecayedSum, FeatureView, RateOfChange, Sum, field
from candor.clock import DAY, SECOND, format_rfc3339
from candor.contracts import HISTORY, Applicant, Application, Checkout, Event, Offer, encode_event
from history.archive.events import accepted_events, read_envelopes
from history.archive.objects import Folder
from history.asof.point_in_time import PointInTimeQuery, point_in_time
from history.asof.spark import SparkArchive, session
from simulation import oracle
from tests.builders import NOW, all_aggregations, customer, definitions_of, failed, paid, shop

PER_FILE, SHOPS, ORACLE_ROWS = 50_000, 200, 100
AGEING = [
    DecayedSum("amount", half_life="2d"),
    DecayedSum("amount", half_life="14d", where=field("amount") > 0),
    RateOfChange(Count(), "7d"),
    RateOfChange(Sum("amount"), "7d"),
]
VIEWS = [
    FeatureView(f"{entity.name}_all", entity, [paid, failed], [*all_aggregations(), *AGEING], ["14d", "28d"])
    for entity in (customer, shop)
]
DEFINITIONS = definitions_of(*VIEWS)


def main(arguments: list[str] | None = None) -> int:
    """Run once; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offline.on_spark", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=50_000)
    options = parser.parse_args(arguments)
    rng = random.Random(1)
    customers = max(options.events // 20, 1)
    questions = [_question(number, rng, customers) for number in range(options.labels)]
    with tempfile.TemporaryDirectory() as name:
        written = _write(Path(name), options.events, customers, rng)
        began = time.perf_counter()
        on_spark = SparkArchive(
            session("equality"), DEFINITIONS, Folder(Path(name)), before=NOW
        ).point_in_time(questions)
        spark_s = time.perf_counter() - began
        events = list(accepted_events(read_envelopes(Path(name)), DEFINITIONS))
        began = time.perf_counter()
        embedded = point_in_time(DEFINITIONS, events, questions)
        embedded_s = time.perf_counter() - began
    same = np.array_equal(on_spark.values, embedded.values, equal_nan=True)
    print(
        f"Spark and the embedded engine are {'equal' if same else 'NOT equal'}", file=sys.stderr, flush=True
    )
    wrong = _beside_oracle(events, questions, embedded.values, rng)
    summary: dict[str, Any] = {
        "events": written,
        "labels": len(questions),
        "features": len(DEFINITIONS.features),
        "spark_equals_embedded": same,
    }
    summary |= {
        "oracle_rows": ORACLE_ROWS,
        "oracle_rows_that_differ": wrong,
        "spark_s": round(spark_s, 1),
        "embedded_s": round(embedded_s, 1),
    }
    print(json.dumps(summary))
    return 0 if same and not wrong else 1


def _question(number: int, rng: random.Random, customers: int) -> PointInTimeQuery:
    checkout = Checkout(
        f"chk_{number}",
        "order",
        "US",
        "USD",
        300,
        [],
        Applicant(f"c{rng.randrange(customers)}"),
        Offer("pay_in_4", 4, 14),
    )
    return PointInTimeQuery(str(number), NOW - rng.randrange(20 * DAY), Application(checkout, _shop(rng)))


def _shop(rng: random.Random) -> str:
    return "s0" if rng.random() < 0.1 else f"s{rng.randrange(SHOPS)}"


def _write(folder: Path, count: int, customers: int, rng: random.Random) -> int:
    """Write events in random order, one in fifty twice. Only customers' events are voided, one in two hundred."""
    written = 0
    for first in range(0, count, PER_FILE):
        with gzip.open(folder / f"{first:09}.gz", "wb", compresslevel=1) as lines:
            for number in range(first, min(first + PER_FILE, count)):
                for event in _copies(number, customers, rng):
                    detail = msgspec.Raw(encode_event(event))
                    envelope = {"time": format_rfc3339(NOW), "source": HISTORY, "detail": detail}
                    lines.write(msgspec.json.encode(envelope) + b"\n")
                    written += 1
    return written


def _copies(number: int, customers: int, rng: random.Random) -> list[Event]:
    kind = "payment.failed" if rng.random() < 0.1 else "payment.succeeded"
    data = {"amount": rng.randrange(100, 100_000)} if rng.random() < 0.95 else {}
    if kind == "payment.succeeded" and rng.random() < 0.9:
        data |= {"kind": rng.choice(["a", "b", f"kind {rng.randrange(500)}"])}  # type: ignore[dict-item] # the kinds of a field differ
    entities = {"customer": f"c{rng.randrange(customers)}"}
    voided = rng.random() < 0.005
    if not voided:
        entities["shop"] = _shop(rng)
    at = NOW - rng.randrange(50 * DAY)
    known_at = at + (DAY if rng.random() < 0.05 else 2 * SECOND)
    event = Event(f"evt_{number}", kind, at, entities, data, known_at=known_at)
    copies = [event] * (2 if rng.random() < 0.02 else 1)
    return [*copies, msgspec.structs.replace(event, voided_at=rng.randint(at, NOW))] if voided else copies


def _beside_oracle(
    events: list[Event], questions: list[PointInTimeQuery], values: np.ndarray, rng: random.Random
) -> int:
    """Number of sampled rows that differ from the oracle."""
    by_entity: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        for entity in event.entities.items():
            by_entity[entity].append(event)
    wrong = 0
    for row in rng.sample(range(len(questions)), min(ORACLE_ROWS, len(questions))):
        question, expected = questions[row], []
        for view in VIEWS:
            key = str(view.entity.key_of(question.application))
            expected += oracle.expected(view, by_entity[view.entity.name, key], key, question.q)
        wrong += not np.array_equal(np.array(expected), values[row], equal_nan=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
