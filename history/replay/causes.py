"""Why a view answered otherwise than all that is known now would have: which events it lacked, and why each."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from operator import itemgetter
from typing import Final, NamedTuple

from candor.clock import HOUR
from candor.features.event_types import MAX_SKEW
from candor.features.plan import plan_of
from candor.features.state import ViewState
from candor.features.vector import Version
from candor.features.views import FeatureView
from candor.updates import Retention
from history.archive.commits import CommitLog
from history.archive.events import Arrival
from history.replay.as_served import item_versions

LATENESS: Final = "lateness"
"""The bus took an event after the decision had been made."""

LAG: Final = "lag"
"""The bus had it, and the updater applied it after the decision, or has been about to for less than an hour."""

OVERFLOW: Final = "overflow"
"""It came when every window of the view had passed it, and was left out and counted."""

VOIDED: Final = "voided"
"""The item held an event that was taken back and cannot be taken out: it waits to be rebuilt."""

ERASED: Final = "erased"
"""It occurred before its entity was erased."""

EXPIRED: Final = "expired"
"""The item had expired with it."""

UNAVAILABLE: Final = "unavailable"
"""The view could not be read, and the record says so."""

UNEXPLAINED: Final = "unexplained"
"""None of these: an event was lost, or the two engines disagree."""

CAUSES: Final = (UNEXPLAINED, UNAVAILABLE, ERASED, EXPIRED, OVERFLOW, VOIDED, LAG, LATENESS)
"""Of several causes the first of these is told."""

UNDER_WAY: Final = HOUR
"""An event that nothing has applied for so long after the bus took it is not under way any more."""

ErasedAt = Callable[[str, str], int | None]
"""When an entity, by kind and token, was erased (ms), or None."""


class AppliedCommit(NamedTuple):
    """A commit that took an event in; `filled` if it came from the archive."""

    version: Version
    applied_at: int
    filled: bool


class ItemRead(NamedTuple):
    """One question to an item: the version that was served (None: none stood), q, and when that was, by wall clock (ms)."""

    version: Version | None
    q: int
    decided_at: int


class ItemHistory:
    """What archive and log tell of one item."""

    def __init__(self, view: FeatureView, key: str, log: CommitLog, events: Mapping[str, Arrival]) -> None:
        self.view, self.key = view, key
        self._log, self._events = log, events
        self.steps = _steps(key, log, events)
        self._plan = plan_of(view)
        self._known = sorted(
            ((_bears_from(arrival), event_id) for event_id, arrival in self.known()), key=itemgetter(0)
        )
        self._ended = {commit.birth: commit.applied_at for commit in log.of(key)}
        applied = sorted(
            (step.applied_at, _bears_from(events[event_id]))
            for event_id, steps in self.steps.items()
            for step in steps
        )
        self._applied = [applied_at for applied_at, _ in applied]
        self._watermarks = list(accumulate((moment for _, moment in applied), max))
        self._stale: dict[Version | None, bool] = {}

    def known(self) -> Iterator[tuple[str, Arrival]]:
        """The events that count by now: what the bus took, less what was refused and never redriven."""
        return (
            (event_id, arrival)
            for event_id, arrival in self._events.items()
            if arrival.in_time or event_id in self.steps
        )

    def lacking(self, request: ItemRead) -> Iterator[Arrival]:
        """Events, and voids, that bear on `q` and that the version had not taken in."""
        reached = self._plan.oldest(request.q)
        for _, event_id in self._known[: bisect_left(self._known, request.q, key=itemgetter(0))]:
            arrival = self._events[event_id]
            if reached is not None and arrival.event.occurred_at < reached:
                continue
            if not any(_precedes(step, request.version) for step in self.steps.get(event_id, ())):
                yield arrival

    def cause(
        self, arrival: Arrival, request: ItemRead, retention: Retention, now_ms: int, erased_at: ErasedAt
    ) -> str:
        """Why the version had not taken the event in."""
        event, name = arrival.event, self.view.entity.name
        if event.occurred_at < (erased_at(name, event.entities[name]) or 0):
            return ERASED
        if arrival.taken_at > request.decided_at:
            return LATENESS
        steps = self.steps.get(event.dedup_id, ())
        if not steps:
            if self._came_too_late(arrival, retention):
                return OVERFLOW
            return LAG if now_ms - arrival.taken_at < UNDER_WAY else UNEXPLAINED
        if any(step.applied_at > request.decided_at - MAX_SKEW for step in steps):
            return LAG
        kept = self.view.item_expiry_ms
        ends = [self._ended[step.version.birth] + kept for step in steps] if kept is not None else []
        return EXPIRED if ends and max(ends) < request.decided_at + MAX_SKEW else UNEXPLAINED

    def _came_too_late(self, arrival: Arrival, retention: Retention) -> bool:
        """True if every window had passed it when it was last delivered, at the latest."""
        place = bisect_right(self._applied, arrival.taken_at + retention.event_ids)
        if place == 0:
            return False
        reached = self._plan.oldest(self._watermarks[place - 1] - MAX_SKEW)
        return reached is not None and arrival.event.occurred_at < reached

    def is_stale(self, version: Version | None) -> bool:
        """True if the item said of itself in this version that a void could not be taken out of it."""
        if version not in self._stale:
            self._stale[version] = version is not None and self._was_stale(version)
        return self._stale[version]

    def _was_stale(self, version: Version) -> bool:
        read = item_versions(self.view, self.key, [version], self._log, self._events)[version]
        if isinstance(read, str) or read.blob is None:
            return False
        return ViewState.decode(self.view, read.blob).stale


def _steps(key: str, log: CommitLog, events: Mapping[str, Arrival]) -> dict[str, list[AppliedCommit]]:
    """The commits that took each archived event in, one a birth."""
    steps: dict[str, dict[int, AppliedCommit]] = {}
    for commit in log.of(key):
        filled = commit.filled_before is not None
        ids = _filled(events, commit.filled_before) if commit.filled_before is not None else commit.event_ids
        step = AppliedCommit(Version(commit.birth, commit.n), commit.applied_at, filled)
        for event_id in ids:
            if event_id in events:
                steps.setdefault(event_id, {}).setdefault(commit.birth, step)
    return {event_id: list(births.values()) for event_id, births in steps.items()}


def _filled(events: Mapping[str, Arrival], before: int) -> list[str]:
    return [event_id for event_id, arrival in events.items() if arrival.in_time and arrival.taken_at < before]


def _precedes(step: AppliedCommit, version: Version | None) -> bool:
    return version is not None and step.version.birth == version.birth and step.version.n <= version.n


def _bears_from(arrival: Arrival) -> int:
    """The moment (ms) after which an event, or a void, counts."""
    event = arrival.event
    return event.occurred_at if event.voided_at is None else event.voided_at
