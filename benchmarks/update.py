"""Update path without the network: cost of one event and one commit for a view of 30 aggregations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count

from benchmarks.rounds import Measurement, interleaved
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
from candor.features.aggregations import Aggregation
from candor.features.vector import Read, Version
from candor.updates import Retention, prepare

START = 1_750_000_000_000
RETENTION = Retention(event_ids=19 * DAY)
BATCH = 50
HISTORY = 30
"""Events in the last quarter of an ordinary customer."""

QUARTER = ("1h", "24h", "7d", "30d", "90d")
COMMIT_BUDGET = 150
EVENT_BUDGET = 5

_FILTERS = (None, type_is("payment.failed"), field("amount") > 10_000)
_OF_AMOUNT = (Sum, Mean, Variance, Min, Max, First, Last)


def aggregations(size: int = 30) -> list[Aggregation]:
    """Ten aggregations over all events, over failures alone, over large amounts alone: the first `size` of them."""
    wanted: list[Aggregation] = [
        aggregation
        for where in _FILTERS
        for aggregation in (
            Count(where=where),
            *(kind("amount", where=where) for kind in _OF_AMOUNT),
            TimeSinceLast(where=where),
            Distinct("category", where=where),
        )
    ]
    return wanted[:size]


def payments_view(
    wanted: Sequence[Aggregation], windows: Sequence[str] = QUARTER, *, hot: bool = False
) -> FeatureView:
    """Aggregations of a customer's payments, succeeded and failed."""
    customer = Entity("customer", "checkout.applicant.token", hot=hot)
    fields = {"amount": Money(), "category": Text(of=[f"category-{number}" for number in range(12)])}
    kinds = [EventType(name, [customer], fields) for name in ("payment.succeeded", "payment.failed")]
    return FeatureView("payments", customer, kinds, wanted, windows)


def measure() -> Iterator[Measurement]:
    """CPU µs of one commit with one event, and of each further event in the same batch."""
    view = payments_view(aggregations())
    numbers = count()
    blob = customer_item(view, numbers)
    spent = interleaved(
        {"one": _commit(view, blob, numbers, 1), "batch": _commit(view, blob, numbers, BATCH)}
    )
    event = (spent["batch"] - spent["one"]) / (BATCH - 1)
    yield Measurement(
        "update",
        f"one commit of one event (customer with {HISTORY} events)",
        spent["one"],
        budget=COMMIT_BUDGET,
    )
    yield Measurement(
        "update", f"each further event of the same customer (of {BATCH})", event, budget=EVENT_BUDGET
    )


def payments(numbers: Iterator[int], size: int, step: int, start: int) -> list[Event]:
    """Payments `step` ms apart."""
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


def customer_item(view: FeatureView, numbers: Iterator[int]) -> bytes:
    """The item of an ordinary customer."""
    return item_of(view, payments(numbers, HISTORY, 3 * DAY, START))


def item_of(view: FeatureView, events: Sequence[Event]) -> bytes:
    """The item after these events, at the last one's moment."""
    prepared = prepare(view, "key", Read("absent"), events, events[-1].occurred_at, RETENTION)
    assert prepared.commit is not None
    return prepared.commit.blob


def _commit(view: FeatureView, blob: bytes, numbers: Iterator[int], size: int) -> Callable[[], int]:
    later = START + HISTORY * 3 * DAY
    batches = [payments(numbers, size, HOUR, later) for _ in range(40)]
    read = Read("present", blob, Version(START, HISTORY))

    def call() -> int:
        for events in batches:
            prepare(view, "key", read, events, later, RETENTION)
        return len(batches)

    return call
