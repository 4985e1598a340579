"""Guard of the serving bundle: compares live metrics since the latest promotion, challenge or release with those before.

A rollback is one pointer write. The guard never reverts its own change: if the figures stay bad with the previous
champion, the model is not the cause.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from candor.clock import DAY, HOUR
from candor.errors import BundleRefused
from candor.registry.lifecycle import Actor
from candor.registry.pointer import Pointer
from candor.registry.registry import NothingToRollBack, Registry
from candor.registry.registry_table import PromotionConflict

GUARD: Final = "guard"
"""The guard's name as an actor."""

BEFORE: Final = DAY
"""Length (ms) of the reference period before a change."""

_COUNTED: Final = ("Decisions", "Approved", "Degraded", "BundlesFailed")
_PERIOD_S: Final = 300
_MS: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class GuardLimits:
    """Limits beyond which a change is reverted, for `hours` after it, from `min_decisions` on; maxima are shares."""

    hours: int
    min_decisions: int
    max_degraded: float
    max_approval_change: float

    @classmethod
    def parse(cls, text: str) -> GuardLimits:
        """Parse a JSON object of all limits. ValueError if one is missing or unknown."""
        members = json.loads(text)
        if not isinstance(members, dict) or set(members) != {field.name for field in fields(cls)}:
            raise ValueError(f"limits: give exactly {', '.join(field.name for field in fields(cls))}")
        return cls(**members)


class Traffic(NamedTuple):
    """Counts of decisions, and of bundle failures, in a period."""

    decisions: float = 0
    approved: float = 0
    degraded: float = 0
    bundles_failed: float = 0


class Change(NamedTuple):
    """A promotion, challenge or policy release, with bundle, moment (ms UTC) and actor.

    `kind` is `champion`, `challenger` or `policy`; `reverts` is true of a policy's rollback.
    """

    kind: str
    bundle: str
    at: int
    by: str
    reverts: bool = False


def latest(pointer: Pointer) -> Change | None:
    """The latest promotion, challenge, policy release or its rollback; None before the first promotion."""
    changes = [Change("champion", pointer.bundle, pointer.promoted_at, pointer.by)] if pointer.bundle else []
    if pointer.challenger:
        challenge = pointer.challenger
        changes.append(Change("challenger", challenge.bundle, challenge.at, challenge.by))
    if pointer.policy and pointer.bundle:
        policy = pointer.policy
        changes.append(Change("policy", pointer.bundle, policy.at, policy.by, policy.rolled_back))
    return max(changes, key=lambda change: change.at, default=None)


def harm(before: Traffic, since: Traffic, limits: GuardLimits) -> list[str]:
    """Harms since a change, in words; empty while there are too few decisions."""
    return list(_harm(before, since, limits))


def _harm(before: Traffic, since: Traffic, limits: GuardLimits) -> Iterator[str]:
    if since.bundles_failed > 0 and before.bundles_failed == 0:
        yield f"its bundle could not serve {since.bundles_failed:.0f} times"
    if since.decisions < limits.min_decisions:
        return
    degraded = since.degraded / since.decisions
    usual = before.degraded / before.decisions if before.decisions else 0.0
    # A share that was as high before is not due to the change.
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
    """Reverts harmful changes by CloudWatch's metrics, and notifies `topic`. Clients' errors propagate."""

    registry: Registry
    cloudwatch: Any
    sns: Any
    topic: str
    stage: str
    limits: GuardLimits

    def check(self, now_ms: int) -> dict[str, Any]:
        """Revert the latest change if it does harm: `taken_back` is its bundle or None, `why` a list of reasons."""
        change = latest(self.registry.pointer())
        if change is None or change.by == GUARD or change.reverts:
            return {"taken_back": None, "why": []}
        if now_ms - change.at > self.limits.hours * HOUR:
            return {"taken_back": None, "why": []}
        before = self.traffic(change.at - BEFORE, change.at)
        since = self.traffic(max(change.at, now_ms - HOUR), now_ms)
        why = harm(before, since, self.limits)
        if not why:
            return {"taken_back": None, "why": []}
        try:
            after = self._take_back(change, now_ms, "; ".join(why))
        except (NothingToRollBack, PromotionConflict, BundleRefused) as stopped:
            return {"taken_back": None, "why": [*why, str(stopped)]}
        outcome = {"taken_back": change.bundle, "was": change.kind, "serves": after.bundle, "why": why}
        self._tell(outcome)
        return outcome

    def traffic(self, start_ms: int, end_ms: int) -> Traffic:
        """Sums of the scorer's metrics in a period."""
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
        if change.kind == "policy":
            return self.registry.roll_back_policy(Actor(GUARD, now_ms, why))
        return self.registry.restore(by=GUARD, at=now_ms, why=why)

    def _tell(self, outcome: Mapping[str, Any]) -> None:
        subject = f"candor {self.stage}: a {outcome['was']} was taken back"
        self.sns.publish(TopicArn=self.topic, Subject=subject, Message=json.dumps(outcome, indent=1))


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / _MS, UTC)
