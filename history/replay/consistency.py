"""Comparison of logged decisions with the archive, in two ways.

As served: each vector is recomputed from the versions that were read; a difference is a fault. As of `q`: the offline
engine answers from all that is known now of that moment; a difference has a cause, and one without is a fault. Also
measured: the delay of events from the bus into the items that decisions read.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from candor.contracts import Event
from candor.decision import Decision
from candor.features.definitions import Definitions
from candor.features.vector import item_keys
from candor.features.views import FeatureView
from candor.updates import Retention
from history.archive.commits import CommitLog
from history.archive.decisions import made_at
from history.archive.items import Items
from history.asof.point_in_time import PointInTimeQuery, point_in_time
from history.replay.as_served import KeptDefinitions, application_of, replay
from history.replay.causes import (
    CAUSES,
    EXPIRED,
    UNAVAILABLE,
    UNEXPLAINED,
    VOIDED,
    ErasedAt,
    ItemHistory,
    ItemRead,
)

UNDATED: Final = "its record does not tell when it was made"
NAMED: Final = 20
"""Largest number of unexplained differences that are named."""


@dataclass
class CauseCount:
    """Number of features, and of decisions."""

    features: int = 0
    decisions: int = 0


@dataclass(frozen=True)
class Freshness:
    """Delay from the bus into the item: number of events, median and 99th percentile (ms)."""

    events: int
    p50: int
    p99: int


@dataclass
class ConsistencyReport:
    """Results of a comparison of decisions.

    `mismatches`: ids whose as-served replay differs. `compared` decisions with `features` values were compared as of
    q; `causes` counts differences by cause. `unexplained` names the first of those (decision id, feature).
    """

    decisions: int
    mismatches: list[str] = field(default_factory=list)
    not_replayable: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    features: int = 0
    causes: dict[str, CauseCount] = field(default_factory=dict)
    unexplained: list[tuple[str, str]] = field(default_factory=list)
    freshness: dict[str, Freshness] = field(default_factory=dict)

    def take_in(self, decision: Decision, differing: Mapping[str, Sequence[str]]) -> None:
        """Count one compared decision: its differing features by cause."""
        self.compared += 1
        self.features += len(decision.vector.values)
        for cause, names in differing.items():
            tally = self.causes.setdefault(cause, CauseCount())
            tally.features += len(names)
            tally.decisions += 1
        unexplained = [(decision.id, name) for name in differing.get(UNEXPLAINED, ())]
        self.unexplained += unexplained[: NAMED - len(self.unexplained)]

    @property
    def unexplained_features(self) -> int:
        return self.causes.get(UNEXPLAINED, CauseCount()).features

    def as_json(self) -> dict[str, Any]:
        """JSON form, with percentages of what was compared."""
        return {
            "decisions": self.decisions,
            "as_served_mismatches": len(self.mismatches),
            "mismatching": self.mismatches[:NAMED],
            "not_replayable": dict(self.not_replayable),
            "compared": self.compared,
            "features": self.features,
            "causes": {
                cause: {
                    "features": tally.features,
                    "features_percent": _percent(tally.features, self.features),
                    "decisions": tally.decisions,
                    "decisions_percent": _percent(tally.decisions, self.compared),
                }
                for cause in CAUSES
                if (tally := self.causes.get(cause)) is not None
            },
            "unexplained": [
                {"decision": decision_id, "feature": name} for decision_id, name in self.unexplained
            ],
            "freshness_ms": {
                name: {"events": delays.events, "p50": delays.p50, "p99": delays.p99}
                for name, delays in self.freshness.items()
            },
        }


def nobody(_kind: str, _token: str) -> int | None:
    """The lookup for a stage without erasures."""
    return None


class ArchivedHistory:
    """Events and commits of the items that decisions read."""

    def __init__(
        self, definitions: Definitions, log: CommitLog, items: Items, retention: Retention, now_ms: int
    ) -> None:
        self.definitions, self.log, self.events = definitions, log, items
        self.retention, self.now_ms = retention, now_ms
        self.kept = KeptDefinitions(definitions)
        self.items = {
            key: ItemHistory(self.kept.view_of(key), key, log, arrivals) for key, arrivals in items.items()
        }

    def known(self) -> list[Event]:
        """Return every event that counts now, first copies in order of arrival."""
        arrivals = {id(arrival): arrival for item in self.items.values() for _, arrival in item.known()}
        return [arrival.event for arrival in sorted(arrivals.values(), key=lambda arrival: arrival.taken_at)]


def consistency(
    decisions: Sequence[Decision],
    archived: ArchivedHistory,
    erased_at: ErasedAt = nobody,
    since: int | None = None,
) -> ConsistencyReport:
    """Compare decisions both ways. `since` (ms): freshness excludes events that the bus accepted earlier."""
    report = ConsistencyReport(len(decisions))
    compared = []
    for replayed in replay(decisions, archived.definitions, archived.log, archived.events):
        if replayed.reason is not None:
            report.not_replayable[replayed.reason] += 1
            continue
        if replayed.differences:
            report.mismatches.append(replayed.decision.id)
        if made_at(replayed.decision) is None:
            report.not_replayable[UNDATED] += 1
        else:
            compared.append(replayed.decision)
    for served, group in _by_definitions(compared, archived.kept):
        _compare(served, group, archived, erased_at, report)
    report.freshness = freshness(archived.items.values(), archived.events, since or 0)
    return report


def _by_definitions(
    decisions: Iterable[Decision], kept: KeptDefinitions
) -> Iterable[tuple[Definitions, list[Decision]]]:
    """Group decisions by the declarations that made them."""
    groups: dict[Definitions, list[Decision]] = defaultdict(list)
    for decision in decisions:
        served = kept.served_by(decision)
        assert served is not None
        groups[served].append(decision)
    return groups.items()


def _compare(
    definitions: Definitions,
    decisions: Sequence[Decision],
    archived: ArchivedHistory,
    erased_at: ErasedAt,
    report: ConsistencyReport,
) -> None:
    """Compare decisions of the same declarations as of their moments."""
    questions = [
        PointInTimeQuery(decision.id, decision.q, application_of(decision)) for decision in decisions
    ]
    # With all knowledge by now, late events differ and are reported as lateness.
    table = point_in_time(definitions, archived.known(), questions, knowledge="ever")
    for row, decision in enumerate(decisions):
        columns = _differing(np.array(decision.vector.values), table.values[row])
        names = [definitions.features[column] for column in columns]
        report.take_in(decision, _explained(definitions, decision, names, archived, erased_at))


def _differing(served: np.ndarray, known: np.ndarray) -> list[int]:
    """Indices of values whose bits differ; NaN equals NaN, -0.0 differs from 0.0."""
    same = (served.view(np.int64) == known.view(np.int64)) | (np.isnan(served) & np.isnan(known))
    return [int(column) for column in np.flatnonzero(~same)]


def _explained(
    definitions: Definitions,
    decision: Decision,
    names: Sequence[str],
    archived: ArchivedHistory,
    erased_at: ErasedAt,
) -> dict[str, list[str]]:
    """Group differing features by cause.

    An on-demand feature takes the cause of the features it is computed from.
    """
    explained: defaultdict[str, list[str]] = defaultdict(list)
    of_view = {feature.name: view for view in definitions.views for feature in view.features}
    causes: dict[FeatureView, str] = {}
    for name in names:
        if name in of_view:
            view = of_view[name]
            if view not in causes:
                causes[view] = _cause(definitions, decision, view, archived, erased_at)
            explained[causes[view]].append(name)
    derived = [name for name in names if name not in of_view]
    if derived:
        explained[_first(causes.values())] += derived
    return explained


def _cause(
    definitions: Definitions,
    decision: Decision,
    view: FeatureView,
    archived: ArchivedHistory,
    erased_at: ErasedAt,
) -> str:
    """Return the cause of a view's difference in a decision."""
    state = decision.vector.states[view.name]
    if state in (UNAVAILABLE, EXPIRED):
        return state
    decided_at = made_at(decision)
    assert decided_at is not None
    requests = {
        archived.items[key]: ItemRead(decision.vector.versions.get(key), decision.q, decided_at)
        for key in item_keys(definitions, application_of(decision))[view.name]
    }
    lacking = {
        item.cause(arrival, request, archived.retention, archived.now_ms, erased_at)
        for item, request in requests.items()
        for arrival in item.lacking(request)
    }
    if lacking:
        return _first(lacking)
    return (
        VOIDED if any(item.is_stale(request.version) for item, request in requests.items()) else UNEXPLAINED
    )


def _first(causes: Iterable[str]) -> str:
    return min(causes, key=CAUSES.index, default=UNEXPLAINED)


def freshness(items: Iterable[ItemHistory], events: Items, since: int) -> dict[str, Freshness]:
    """Return, by view, the delay from the bus into the item of events that the bus accepted at `since` (ms) or later.

    Backfilled events do not count; events that a decision wrote itself, before the bus had them, count as 0.
    """
    waited: defaultdict[str, list[int]] = defaultdict(list)
    for item in items:
        for event_id, steps in item.steps.items():
            taken_at = events[item.key][event_id].taken_at
            live = [step.applied_at for step in steps if not step.filled]
            if live and taken_at >= since:
                waited[item.view.name].append(max(min(live) - taken_at, 0))
    return {
        name: Freshness(len(delays), _percentile(delays, 50), _percentile(delays, 99))
        for name, delays in sorted(waited.items())
    }


def _percentile(delays: Sequence[int], percent: int) -> int:
    """Smallest value that at least this percentage does not exceed."""
    return sorted(delays)[math.ceil(len(delays) * percent / 100) - 1]


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 4) if whole else 0.0
