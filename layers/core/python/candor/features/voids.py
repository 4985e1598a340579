"""Voids: a void names an event and undoes what that event counted, and nothing else.

Its own data and moment have no effect. While the named event is raw, or has not arrived, the void waits. Once the
event is in a tile, the void is settled only with proof of what was counted. Without proof nothing is undone and the
state becomes stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum

import msgspec

from candor.contracts import Event
from candor.features import size
from candor.features.event_types import MAX_SKEW
from candor.features.plan import Row

MOST_VOIDS = size.MOST_VOIDS


class VoidEvidence(Enum):
    """Evidence on a void's event that is not stored as a raw row."""

    COUNTED = "it was counted with exactly what the void repeats"
    NEVER_APPLIED = "it was never applied, or nothing reaches it any more"
    UNPROVED = "neither can be shown"


Resolve = Callable[[Event], VoidEvidence]


class Voids(msgspec.Struct):
    """Unsettled voids of a state.

    `waiting`: `voided_at` (ms) by the id of an event that is raw or has not arrived. `counted`: `voided_at`, then the
    row of an event in a tile. `forgotten`: the latest `voided_at` of voids without an event that were dropped for
    lack of room.
    """

    waiting: dict[str, int] = {}
    counted: list[Row] = []
    forgotten: int | None = None

    def __bool__(self) -> bool:
        return bool(self.waiting or self.counted)

    def names(self, event_id: str) -> bool:
        """True if a void of this event is waiting or counted."""
        return event_id in self.waiting or any(row[2] == event_id for row in self.counted)

    def absorb(self, other: Voids) -> None:
        """Merge the voids of another segment of the same entity."""
        self.waiting = {**self.waiting, **other.waiting}
        self.counted += other.counted
        self.forgotten = max(filter(None, (self.forgotten, other.forgotten)), default=None)

    @property
    def exact_from(self) -> int:
        """First moment (ms) unaffected by rows that were removed early for lack of room."""
        crowded = len(self.counted) >= MOST_VOIDS
        return min(int(row[0]) for row in self.counted) + 1 if crowded else 0

    def before(self, q: int) -> set[str]:
        """Ids of events voided before `q` (ms)."""
        return {
            *(event_id for event_id, voided_at in self.waiting.items() if voided_at < q),
            *(row[2] for row in self.counted if row[0] < q),
        }

    def ripe(self, fold_horizon: int) -> list[Row]:
        """Counted rows to settle now: those voided before the fold horizon (ms), and the oldest beyond `MOST_VOIDS`."""
        self.counted.sort(key=lambda row: row[:3])
        surplus = len(self.counted) - MOST_VOIDS
        return [row for index, row in enumerate(self.counted) if row[0] < fold_horizon or index < surplus]

    def trim(self, raw: Collection[str], reached: int | None) -> None:
        """Drop voids without an event: those no window reaches (`reached`, ms), and the oldest beyond `MOST_VOIDS`."""
        absent = sorted((at, event_id) for event_id, at in self.waiting.items() if event_id not in raw)
        surplus = len(absent) - MOST_VOIDS
        for index, (voided_at, event_id) in enumerate(absent):
            if reached is not None and voided_at + MAX_SKEW < reached:
                del self.waiting[event_id]
            elif index < surplus:
                del self.waiting[event_id]
                self.forgotten = max(self.forgotten or 0, voided_at)

    def may_concern(self, occurred_at: int) -> bool:
        """True if a forgotten void may name an event of this moment (ms)."""
        return self.forgotten is not None and occurred_at < self.forgotten + MAX_SKEW
