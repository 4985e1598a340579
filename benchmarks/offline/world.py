"""Events and labels of a lender as two Parquet files, and the declarations of 30 features of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from candor import (
    Count,
    Definitions,
    Distinct,
    Entity,
    EventType,
    FeatureView,
    Integer,
    Last,
    Max,
    Mean,
    Money,
    Sum,
    Text,
)
from candor.clock import DAY, SECOND

START = 1_700_000_000_000
SPAN = 360 * DAY
WINDOWS = ("24h", "7d", "30d", "60d", "90d")
PER_CUSTOMER, PER_LABEL, CATEGORIES = 10, 10, 50
TWICE = 100
"""One event in this many is delivered twice."""

SECONDS = 2 * SECOND
"""Delay (ms) after which every event is known, where events are late."""

LATE_BY_A_DAY = 20
"""One event in this many is known a day after its moment, where some are late by days."""

customer = Entity("customer", "checkout.applicant.token")
paid = EventType("payment.succeeded", [customer], {"amount": Money(), "category": Text()})
VIEW = FeatureView(
    name="payments",
    entity=customer,
    events=[paid],
    aggregations=[
        Count(),
        Sum("amount"),
        Mean("amount"),
        Max("amount"),
        Last("amount"),
        Distinct("category"),
    ],
    windows=WINDOWS,
)
DEFINITIONS = Definitions(entities=[customer], events=[paid], views=[VIEW])


FINISHED = 30
finished = EventType("features.finished", [customer], {f"f{place}": Integer() for place in range(FINISHED)})
READY = Definitions(
    entities=[customer],
    events=[finished],
    views=[
        FeatureView(
            "ready", customer, [finished], [Last(f"f{place}") for place in range(FINISHED)], ["lifetime"]
        )
    ],
)
"""Newest of precomputed values: the point-in-time join of a feature store."""


def write(folder: Path, events: int, *, hot: float = 0.0, seed: int = 1) -> None:
    """Write `events.parquet` in order of arrival and `labels.parquet`, a tenth as many; events are known at their moment.

    Customers differ: the busiest tenth has a third of all events. `hot`: the share of both that one customer has.
    """
    rng = np.random.default_rng(seed)
    customers = max(events // PER_CUSTOMER, 1)
    labels = events // PER_LABEL
    copies = np.sort(np.concatenate([np.arange(events), rng.choice(events, events // TWICE, replace=False)]))
    at = np.sort(rng.integers(START, START + SPAN, events))
    happened = pl.DataFrame(
        {
            "id": pl.select(
                pl.lit("evt_") + pl.int_range(10**12, 10**12 + events).cast(pl.String)
            ).to_series(),
            "type": pl.repeat("payment.succeeded", events, eager=True),
            "at": at,
            "voided_at": pl.repeat(None, events, eager=True, dtype=pl.Int64),
            "known_at": pl.repeat(None, events, eager=True, dtype=pl.Int64),
            "entity_customer": _tokens(_customers(rng, events, customers, hot)),
            "integer_amount": np.minimum(rng.lognormal(8, 1.2, events), 10**9).astype(np.int64),
            "text_category": (pl.Series(rng.zipf(1.5, events) % CATEGORIES).cast(pl.String)),
        }
    )
    happened[copies].write_parquet(folder / "events.parquet")
    labels_table = pl.DataFrame(
        {
            "q": rng.integers(START + SPAN // 4, START + SPAN, labels),
            "entity_customer": _tokens(_customers(rng, labels, customers, hot)),
        }
    )
    labels_table.write_parquet(folder / "labels.parquet")


def make_late(folder: Path, *, days: bool, seed: int = 1) -> None:
    """Let every event of `events.parquet` be known some seconds after its moment, or with `days` some of them a day."""
    events = pl.read_parquet(folder / "events.parquet")
    late = np.full(len(events), SECONDS)
    if days:
        late[np.random.default_rng(seed).random(len(events)) < 1 / LATE_BY_A_DAY] = DAY
    events.with_columns(known_at=pl.col("at") + pl.Series(late)).write_parquet(folder / "events.parquet")


def _customers(rng: np.random.Generator, count: int, customers: int, hot: float) -> np.ndarray:
    numbers = (customers * rng.random(count) ** 2).astype(np.int64)
    numbers[rng.random(count) < hot] = customers
    return numbers


def _tokens(numbers: np.ndarray) -> pl.Series:
    return pl.select(pl.lit("cus_") + pl.Series(numbers + 10**8).cast(pl.String)).to_series()


def write_ready(folder: Path, events: int, seed: int = 1) -> None:
    """`ready.parquet` and `ready_labels.parquet`: rows of 30 finished values, and a tenth as many queries.

    Moments of values are even and those of queries odd: strictly before is at or before.
    """
    rng = np.random.default_rng(seed)
    customers, labels = max(events // PER_CUSTOMER, 1), events // PER_LABEL
    at = np.sort(rng.integers(START, START + SPAN, events)) // 2 * 2
    ids = pl.select(pl.lit("evt_") + pl.int_range(10**12, 10**12 + events).cast(pl.String)).to_series()
    ready = pl.DataFrame(
        {
            "id": ids,
            "type": pl.repeat("features.finished", events, eager=True),
            "at": at,
            "voided_at": pl.repeat(None, events, eager=True, dtype=pl.Int64),
            "entity_customer": _tokens(_customers(rng, events, customers, 0)),
            **{f"integer_f{place}": rng.integers(0, 10**6, events) for place in range(FINISHED)},
            "event_timestamp": pl.Series(at).cast(pl.Datetime("ms", "UTC")),
        }
    )
    ready.write_parquet(folder / "ready.parquet")
    q = rng.integers(START + SPAN // 4, START + SPAN, labels) // 2 * 2 + 1
    labels_table = pl.DataFrame({"q": q, "entity_customer": _tokens(_customers(rng, labels, customers, 0))})
    labels_table.write_parquet(folder / "ready_labels.parquet")
