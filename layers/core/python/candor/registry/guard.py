"""The guard of what serves: live metrics since the latest promotion or challenge against those before it.

One pointer write takes the change back. A change of the guard's own is never taken back by it: if the figures stay bad
with the champion before, the model is not the cause.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from candor.clock import DAY, HOUR
from candor.registry.pointer import Pointer
from candor.registry.registry import NothingToRollBack, Registry
from candor.registry.registry_table import PromotionConflict

GUARD: Final = "guard"
"""By whose word it moves the pointer."""

BEFORE: Final = DAY
"""So much of what was before a change is compared with."""

_COUNTED: Final = ("Decisions", "Approved", "Degraded", "BundlesFailed")
_PERIOD_S: Final = 300
_MS: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class GuardLimits:
    """When a change is taken back: for `hours` after it, from `min_decisions` on; shares of the decisions."""

    hours: int
    min_decisions: int
    max_degraded: float
    max_approval_change: float

    @classmethod
    def parse(cls, text: str) -> GuardLimits:
        """From a JSON object that names each limit. ValueError if one is missing or unknown."""
        members = json.loads(text)
        if not isinstance(members, dict) or set(members) != {field.name for field in fields(cls)}:
            raise ValueError(f"limits: give exactly {', '.join(field.name for field in fields(cls))}")
        return cls(**members)


class Traffic(NamedTuple):
    """Decisions of a period, and bundles that could not serve in it."""

    decisions: float = 0
    approved: float = 0
    degraded: float = 0
    bundles_failed: float = 0


class Change(NamedTuple):
    """The latest change of who decides: `champion` or `challenger`, which bundle, when (ms UTC) and by whom."""

    kind: str
    bundle: str
    at: int
    by: str


def latest(pointer: Pointer) -> Change | None:
    """The latest change, or None before the first promotion."""
    changes = [Change("champion", pointer.bundle, pointer.promoted_at, pointer.by)] if pointer.bundle else []
    if pointer.challenger:
        challenge = pointer.challenger
        changes.append(Change("challenger", challenge.bundle, challenge.at, challenge.by))
    return max(changes, key=lambda change: change.at, default=None)


def harm(before: Traffic, since: Traffic, limits: GuardLimits) -> list[str]:
    """What is wrong since a change, in words; nothing while too little was decided."""
    return list(_harm(before, since, limits))


def _harm(before: Traffic, since: Traffic, limits: GuardLimits) -> Iterator[str]:
    if since.bundles_failed > 0 and before.bundles_failed == 0:
        yield f"its bundle could not serve {since.bundles_failed:.0f} times"
    if since.decisions < limits.min_decisions:
        return
    degraded = since.degraded / since.decisions
    usual = before.degraded / before.decisions if before.decisions else 0.0
    # What was degraded before as well is no fault of the change.
    if degraded > limits.max_degraded and degraded > 2 * usual:
        yield f"{degraded:.1%} of the decisions are degraded, at most {limits.max_degraded:.1%} may be"
    if before.decisions >= limits.min_decisions:
        was, now = before.approved / before.decisions, since.approved / since.decisions
        if abs(now - was) > limits.max_approval_change:
            yield (
                f"the approval rate went from {was:.1%} to {now:.1%}, "
                f"at most {limits.max_approval_change:.1%} of change is allowed"
            )


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Where the metrics are (boto3's clients), what moves, and who hears of it. Errors of both clients pass through."""

    registry: Registry
    cloudwatch: Any
    sns: Any
    topic: str
    stage: str
    limits: GuardLimits

    def check(self, now_ms: int) -> dict[str, Any]:
        """Take the latest change back if it does harm: `taken_back` is its bundle or None, `why` a list of words."""
        change = latest(self.registry.pointer())
        if change is None or change.by == GUARD or now_ms - change.at > self.limits.hours * HOUR:
            return {"taken_back": None, "why": []}
        before = self.traffic(change.at - BEFORE, change.at)
        since = self.traffic(max(change.at, now_ms - HOUR), now_ms)
        why = harm(before, since, self.limits)
        if not why:
            return {"taken_back": None, "why": []}
        try:
            after = self._take_back(change, now_ms, "; ".join(why))
        except (NothingToRollBack, PromotionConflict) as stopped:
            return {"taken_back": None, "why": [*why, str(stopped)]}
        outcome = {"taken_back": change.bundle, "was": change.kind, "serves": after.bundle, "why": why}
        self._tell(outcome)
        return outcome

    def traffic(self, start_ms: int, end_ms: int) -> Traffic:
        """Sums of a period, by the scorer's own metrics."""
        dimensions = [{"Name": "service", "Value": "score"}, {"Name": "stage", "Value": self.stage}]
        queries: Any = [
            {
                "Id": name.lower(),
                "MetricStat": {
                    "Metric": {"Namespace": "Candor", "MetricName": name, "Dimensions": dimensions},
                    "Period": _PERIOD_S,
                    "Stat": "Sum",
                },
            }
            for name in _COUNTED
        ]
        pages = self.cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, StartTime=_moment(start_ms), EndTime=_moment(end_ms)
        )
        sums = dict.fromkeys((name.lower() for name in _COUNTED), 0.0)
        for page in pages:
            for result in page["MetricDataResults"]:
                sums[result["Id"]] += sum(result["Values"])
        return Traffic(*(sums[name.lower()] for name in _COUNTED))

    def _take_back(self, change: Change, now_ms: int, why: str) -> Pointer:
        if change.kind == "challenger":
            return self.registry.end_challenge(by=GUARD, at=now_ms, why=why)
        return self.registry.restore(by=GUARD, at=now_ms, why=why)

    def _tell(self, outcome: Mapping[str, Any]) -> None:
        subject = f"candor {self.stage}: a {outcome['was']} was taken back"
        self.sns.publish(TopicArn=self.topic, Subject=subject, Message=json.dumps(outcome, indent=1))


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / _MS, UTC)
