"""Voids: a void names an event and takes back what that event counted, and nothing else.

Its own data and moment decide nothing. While the named event is raw, or has yet to come, the void waits. Once the event is in
a tile, the void is settled only with proof that the event was counted, and as what. Without proof nothing is taken away and the
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
    """What is known of the event that a void names, where no raw row holds it."""

    COUNTED = "it was counted with exactly what the void repeats"
    NEVER_APPLIED = "it was never applied, or nothing reaches it any more"
    UNPROVED = "neither can be shown"


Resolve = Callable[[Event], VoidEvidence]


class Voids(msgspec.Struct):
    """Voids of one state that are not settled yet.

    `waiting`: `voided_at` (ms) by the id of an event that is raw or has yet to come. `counted`: `voided_at`, then the row of an
    event that a tile holds. `forgotten`: the latest `voided_at` of voids without event for which there was no room.
    """

    waiting: dict[str, int] = {}
    counted: list[Row] = []
    forgotten: int | None = None

    def __bool__(self) -> bool:
        return bool(self.waiting or self.counted)

    def names(self, event_id: str) -> bool:
        """True if a void of this event waits already, or is counted."""
        return event_id in self.waiting or any(row[2] == event_id for row in self.counted)

    def absorb(self, other: Voids) -> None:
        """Take in the voids of another segment of the same entity."""
        self.waiting = {**self.waiting, **other.waiting}
        self.counted += other.counted
        self.forgotten = max(filter(None, (self.forgotten, other.forgotten)), default=None)

    @property
    def exact_from(self) -> int:
        """The first moment (ms) that no row was taken out for before its time."""
        crowded = len(self.counted) >= MOST_VOIDS
        return min(int(row[0]) for row in self.counted) + 1 if crowded else 0

    def before(self, q: int) -> set[str]:
        """Ids of the events that are void at `q` (ms)."""
        return {
            *(event_id for event_id, voided_at in self.waiting.items() if voided_at < q),
            *(row[2] for row in self.counted if row[0] < q),
        }

    def ripe(self, fold_horizon: int) -> list[Row]:
        """Counted rows that every readable moment lies after: those before the line (ms), and the oldest of too many."""
        self.counted.sort(key=lambda row: row[:3])
        surplus = len(self.counted) - MOST_VOIDS
        return [row for index, row in enumerate(self.counted) if row[0] < fold_horizon or index < surplus]

    def trim(self, raw: Collection[str], reached: int | None) -> None:
        """Drop voids whose event never came: those that no window reaches any more (`reached`, ms), and the oldest of too many."""
        absent = sorted((at, event_id) for event_id, at in self.waiting.items() if event_id not in raw)
        surplus = len(absent) - MOST_VOIDS
        for index, (voided_at, event_id) in enumerate(absent):
            if reached is not None and voided_at + MAX_SKEW < reached:
                del self.waiting[event_id]
            elif index < surplus:
                del self.waiting[event_id]
                self.forgotten = max(self.forgotten or 0, voided_at)

    def may_concern(self, occurred_at: int) -> bool:
        """True if an event of this moment (ms) may be one that a forgotten void named."""
        return self.forgotten is not None and occurred_at < self.forgotten + MAX_SKEW
