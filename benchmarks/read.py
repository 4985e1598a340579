"""Read path without the network: decode and finalise, for an ordinary customer and a dense merchant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count

from benchmarks.rounds import Measurement, interleaved
from benchmarks.update import QUARTER, START, aggregations, customer_item, item_of, payments, payments_view
from candor.clock import DAY, MINUTE
from candor.features.vector import Read, Version, view_values
from candor.features.views import FeatureView

ORDINARY_BUDGET = 100
DENSE_BUDGET = 1_000
DENSE = 100
"""Events a day in one item of a merchant."""

READS = 50


def measure() -> Iterator[Measurement]:
    """CPU µs of one view, for 30 features (six aggregations) and 150 features (30 aggregations), over five windows."""
    calls: dict[str, Callable[[], int]] = {}
    budgets: dict[str, float] = {}
    for size in (6, 30):
        view = payments_view(aggregations(size))
        features = f"{size} aggregations x {len(QUARTER)} windows"
        for name, blob, budget in _items(view):
            calls[f"{name}, {features}"] = _reader(view, blob)
            budgets[f"{name}, {features}"] = budget
    hot = payments_view(aggregations(30), hot=True)
    name = f"hot merchant with {DENSE * hot.shards} events a day in {hot.shards} items, 30 aggregations x {len(QUARTER)} windows"
    calls[name] = _reader(hot, *_shards(hot))
    budgets[name] = DENSE_BUDGET
    for name, spent in interleaved(calls).items():
        yield Measurement("read", name, spent, budget=budgets[name])


def _items(view: FeatureView) -> Sequence[tuple[str, bytes, float]]:
    numbers = count()
    dense = payments(numbers, 90 * DENSE, DAY // DENSE, START)
    return (
        ("customer with 30 events in 90 days", customer_item(view, numbers), ORDINARY_BUDGET),
        (f"merchant with {DENSE} events a day", item_of(view, dense), DENSE_BUDGET),
    )


def _shards(view: FeatureView) -> list[bytes]:
    events = payments(count(), 90 * DENSE * view.shards, DAY // DENSE // view.shards, START)
    by_key = {
        key: [event for event in events if view.item_key("mer", event.id) == key]
        for key in view.item_keys("mer")
    }
    return [item_of(view, shard) for shard in by_key.values()]


def _reader(view: FeatureView, *blobs: bytes) -> Callable[[], int]:
    reads = [Read("present", blob, Version(START, 1)) for blob in blobs]
    q = START + 90 * DAY + MINUTE

    def call() -> int:
        for _ in range(READS):
            view_values(view, reads, q)
        return READS

    return call
