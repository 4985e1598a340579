"""Application of imported events to their items, beside the updater: each event counts once, whoever applies it first.

An item takes all of its events in one commit, as far as their ids fit into it. The ids are known afterwards as if the
queue had brought the events, so a copy that the queue brings later is a duplicate. A repeated fill changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from candor.clock import Clock
from candor.contracts import Event
from candor.errors import CorruptItem, StoreUnavailable
from candor.features.vector import Read
from candor.features.views import FeatureView
from candor.ingest import ItemEvents, apply_events
from candor.store.protocol import FeatureStore
from candor.updates import Retention

PAGE: Final = 50
"""Items read at a time: a few of them may be hundreds of kilobytes, and a response holds 16 MB."""

StoreOf = Callable[[FeatureView], FeatureStore]


@dataclass
class Filled:
    """Items and their events, each counted once per item; `commits` that were written, failures by cause."""

    items: int = 0
    applied: int = 0
    commits: int = 0
    known: int = 0
    """Events that the item had counted before: brought by the queue, or by an interrupted run."""

    too_late: int = 0
    """Events older than every window of the item."""

    stale: set[str] = field(default_factory=set)
    """Keys of items to be healed from the archive."""

    failures: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Filled) -> Self:
        self.items += other.items
        self.applied += other.applied
        self.commits += other.commits
        self.known += other.known
        self.too_late += other.too_late
        self.stale |= other.stale
        self.failures += other.failures
        return self


def fill(
    items: Mapping[tuple[FeatureView, str], Sequence[Event]],
    store_of: StoreOf,
    clock: Clock,
    retention: Retention,
    claimant: str,
) -> Iterator[Filled]:
    """Apply events to their items; yields the result of each item.

    `claimant` names the import. An item that could not be written is counted as a failure: fill it again.
    """
    by_view: dict[FeatureView, list[str]] = {}
    for view, key in items:
        by_view.setdefault(view, []).append(key)
    for view, keys in by_view.items():
        store = store_of(view)
        for start in range(0, len(keys), PAGE):
            page = keys[start : start + PAGE]
            reads = store.load(page)
            for key in page:
                update = ItemEvents(view, key, store, items[view, key], claimant)
                yield _fill_item(update, reads[key], clock.now_ms(), retention)


def _fill_item(update: ItemEvents, read: Read, now_ms: int, retention: Retention) -> Filled:
    result = Filled(items=1)
    try:
        pages = apply_events(update, read, now_ms, retention)
    except (StoreUnavailable, CorruptItem) as cause:
        result.failures[str(cause)] += 1
        return result
    for page in pages:
        result.applied += len(page.fresh)
        result.commits += bool(page.fresh)
        result.too_late += len(page.too_late)
        if page.went_stale:
            result.stale.add(update.key)
    result.known = len(update.events) - result.applied - result.too_late
    return result
