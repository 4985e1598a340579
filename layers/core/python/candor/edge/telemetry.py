"""The scorer's log lines, one per decision: metrics in CloudWatch's embedded format, no personal data.

The other functions use Powertools; on the scorer its import alone exceeds the cold-start budget (ADR 0003).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from candor.clock import Clock
from candor.decision import Decision
from candor.errors import CandorError

NAMESPACE = "Candor"


_UNITS = {"LatencyMs": "Milliseconds"}
"""Units of metrics that are not counts."""


def _metrics(now_ms: int, stage: str, values: Mapping[str, float]) -> dict[str, object]:
    return {
        "_aws": {"Timestamp": now_ms, "CloudWatchMetrics": _declared(tuple(values))},
        "service": "score",
        "stage": stage,
        **values,
    }


@lru_cache(maxsize=8)
def _declared(names: tuple[str, ...]) -> msgspec.Raw:
    """CloudWatch's metric directives, cached: they are equal in all lines of a kind."""
    metrics = [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in names]
    directives = [{"Namespace": NAMESPACE, "Dimensions": [["service", "stage"]], "Metrics": metrics}]
    return msgspec.Raw(msgspec.json.encode(directives))


def decision_line(decision: Decision, stage: str, clock: Clock, latency_ms: float) -> dict[str, object]:
    """Log line of a new decision."""
    values = {
        "Decisions": 1,
        "Approved": int(decision.outcome == "approved"),
        "Degraded": int(decision.degraded),
        "LatencyMs": latency_ms,
    }
    line = _metrics(clock.now_ms(), stage, values)
    return line | {
        "decision_id": decision.id,
        "outcome": decision.outcome,
        "rules": decision.rules,
        "bundle": decision.bundle,
        "states": decision.vector.states,
    }


def bundle_line(sha: str, error: CandorError, stage: str, clock: Clock) -> dict[str, object]:
    """Log line of a bundle that cannot serve: its name and the cause."""
    line = _metrics(clock.now_ms(), stage, {"BundlesFailed": 1})
    return line | {"bundle": sha, "cause": f"{type(error).__name__}: {error}"}


def failure_line(code: str, status: int, request_id: str, stage: str, clock: Clock) -> dict[str, object]:
    """Log line of a request that was not decided: its code, never its content."""
    line = _metrics(clock.now_ms(), stage, {"Problems": 1, "Unwritable": int(status == 503)})
    return line | {"code": code, "status": status, "request_id": request_id}


def emit(line: Mapping[str, object]) -> None:
    """Write a JSON line to standard output."""
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
