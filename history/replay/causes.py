"""Causes why a view differed from all that is known now: the events it lacked, and the reason for each."""

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
"""The bus accepted an event after the decision was made."""

LAG: Final = "lag"
"""The bus had the event, but the updater applied it after the decision, or has had it for less than an hour."""

OVERFLOW: Final = "overflow"
"""The event arrived after every window of the view had passed it, and was left out and counted."""

VOIDED: Final = "voided"
"""The item held a voided event that cannot be subtracted: it waits to be rebuilt."""

ERASED: Final = "erased"
"""The event occurred before its entity was erased."""

EXPIRED: Final = "expired"
"""The item that held the event had expired."""

UNAVAILABLE: Final = "unavailable"
"""The view could not be read, as the record states."""

UNEXPLAINED: Final = "unexplained"
"""None of these: an event was lost, or the two engines disagree."""

CAUSES: Final = (UNEXPLAINED, UNAVAILABLE, ERASED, EXPIRED, OVERFLOW, VOIDED, LAG, LATENESS)
"""Causes by precedence: the first one that applies is reported."""

UNDER_WAY: Final = HOUR
"""Age (ms) from which an unapplied event counts as lost, since the bus accepted it."""

ErasedAt = Callable[[str, str], int | None]
"""Lookup of when an entity, by kind and token, was erased (ms), or None."""


class AppliedCommit(NamedTuple):
    """A commit that applied an event; `filled` if the event came from the archive."""

    version: Version
    applied_at: int
    filled: bool


class ItemRead(NamedTuple):
    """One read of an item: the version served (None: no item), q, and the wall-clock time (ms)."""

    version: Version | None
    q: int
    decided_at: int


class ItemHistory:
    """Archived events and commits of one item."""

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
        """Yield the events that count now: those the bus accepted, without those refused and never redriven."""
        return (
            (event_id, arrival)
            for event_id, arrival in self._events.items()
            if arrival.in_time or event_id in self.steps
        )

    def lacking(self, request: ItemRead) -> Iterator[Arrival]:
        """Yield events, and voids, that affect `q` and that the version had not applied."""
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
        """Return why the version had not applied the event."""
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
        """True if every window had passed it at its last possible delivery."""
        applied_until = bisect_right(self._applied, arrival.taken_at + retention.event_ids)
        if applied_until == 0:
            return False
        reached = self._plan.oldest(self._watermarks[applied_until - 1] - MAX_SKEW)
        return reached is not None and arrival.event.occurred_at < reached

    def is_stale(self, version: Version | None) -> bool:
        """True if the item in this version held a void that could not be subtracted."""
        if version not in self._stale:
            self._stale[version] = version is not None and self._was_stale(version)
        return self._stale[version]

    def _was_stale(self, version: Version) -> bool:
        read = item_versions(self.view, self.key, [version], self._log, self._events)[version]
        if isinstance(read, str) or read.blob is None:
            return False
        return ViewState.decode(self.view, read.blob).stale


def _steps(key: str, log: CommitLog, events: Mapping[str, Arrival]) -> dict[str, list[AppliedCommit]]:
    """Return the commits that applied each archived event, one per birth."""
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
    """Moment (ms) after which an event, or a void, counts."""
    event = arrival.event
    return event.occurred_at if event.voided_at is None else event.voided_at
