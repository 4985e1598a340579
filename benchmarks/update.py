"""The update path without the network: what one event and one commit cost for a view of 30 aggregations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from benchmarks.rounds import Row, interleaved
from candor import (
    Count,
    Distinct,
    Entity,
    EventType,
    FeatureView,
    First,
    Last,
    Max,
    Mean,
    Min,
    Money,
    Sum,
    Text,
    TimeSinceLast,
    Variance,
    field,
    type_is,
)
from candor.clock import DAY, HOUR
from candor.contracts import Event
from candor.features.state import ViewState

START = 1_750_000_000_000
HORIZON = 19 * DAY
BATCH = 50
HISTORY = 30
"""Events in the last quarter of an ordinary customer."""


def view() -> FeatureView:
    """Ten aggregations, each over all events, failures alone, and large amounts alone."""
    customer = Entity("customer", "checkout.applicant.token")
    fields = {"amount": Money(), "category": Text()}
    kinds = [EventType(name, [customer], fields) for name in ("payment.succeeded", "payment.failed")]
    filters = (None, type_is("payment.failed"), field("amount") > 10_000)
    of_amount = (Sum, Mean, Variance, Min, Max, First, Last)
    aggregations = [
        aggregation
        for where in filters
        for aggregation in (
            Count(where=where),
            *(kind("amount", where=where) for kind in of_amount),
            TimeSinceLast(where=where),
            Distinct("category", where=where),
        )
    ]
    return FeatureView("payments", customer, kinds, aggregations, ["1h", "24h", "7d", "30d", "90d"])


def measure() -> Iterator[Row]:
    """CPU µs of one commit with one event, and of each further event in the same batch."""
    declared = view()
    numbers = count()
    blob = _customer(declared, numbers)
    found = interleaved(
        {"one": _commit(declared, blob, numbers, 1), "batch": _commit(declared, blob, numbers, BATCH)}
    )
    event = (found["batch"] - found["one"]) / (BATCH - 1)
    yield Row("update", f"one commit of one event (customer with {HISTORY} events)", found["one"])
    yield Row("update", f"each further event of the same customer (of {BATCH})", event)


def _events(numbers: Iterator[int], size: int, step: int, start: int) -> list[Event]:
    return [
        Event(
            f"evt_{next(numbers)}",
            "payment.failed" if place % 7 == 0 else "payment.succeeded",
            start + place * step,
            {"customer": "app_1"},
            {"amount": 1_000 + place * 997, "category": f"category-{place % 5}"},
        )
        for place in range(size)
    ]


def _customer(declared: FeatureView, numbers: Iterator[int]) -> bytes:
    state = ViewState.new(declared)
    state.apply(_events(numbers, HISTORY, 3 * DAY, START), START, HORIZON)
    return state.encode()


def _commit(declared: FeatureView, blob: bytes, numbers: Iterator[int], size: int) -> Callable[[], int]:
    later = START + HISTORY * 3 * DAY
    batches = [_events(numbers, size, HOUR, later) for _ in range(40)]

    def call() -> int:
        for events in batches:
            state = ViewState.decode(declared, blob)
            state.apply(events, later, HORIZON)
            state.encode()
        return len(batches)

    return call
