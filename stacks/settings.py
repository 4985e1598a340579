"""The settings that differ between stages, read from the `stages` context of cdk.json only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

LOG_RETENTION_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827)
"""The retentions that CloudWatch Logs offers, in days."""

BUS_RETRY_DAYS = 1
"""EventBridge retries a target for at most 24 hours."""

STREAM_DAYS = 1
"""Retention of a table's stream, through which checkout.decided reaches the bus."""


class SettingsError(ValueError):
    """A stage's settings are unusable; the message names the stage, the setting and the remedy."""


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """Thresholds that a bundle must reach before it may serve; see `candor.registry.gates`. Latency in µs."""

    min_auc: float
    max_auc_loss: float
    min_slope: float
    max_slope: float
    max_ece: float
    max_psi: float
    min_air: float
    max_score_us_p99: float
    max_without_reasons: float
    min_reason_stability: float
    min_approval_rate: float
    min_profit_per_unit: float


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """Live metrics that revert a promotion or a challenge within `hours` after it; 0 hours: never.

    `max_degraded` and `max_approval_change` are shares of the decisions. Fewer than `min_decisions` revert nothing.
    """

    hours: int
    min_decisions: int
    max_degraded: float
    max_approval_change: float


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """One stage, validated. Names carry the unit of their value.

    - `replay_clock` allows a caller to choose the moment of a decision: for historic data, never in prod.
    - `score_snapshots` starts the scorer's published version from a snapshot (Lambda SnapStart), which AWS charges for.
    - `promotion` says who promotes a candidate to champion: the gates alone ("policy") or a person; `approval` whether
      a second person must agree. A challenger's share of traffic grows by `canary_shares`.
    - `retrain_schedule` starts retrainings, `monitor_schedule` the champion's monitoring report: expressions of
      EventBridge Scheduler; null: never.
    - `healing_concurrency` bounds the concurrent invocations that heal stale items.
    """

    stage: str
    removal: Literal["retain", "destroy"]
    termination_protection: bool
    point_in_time_recovery: bool
    replay_clock: Literal["allowed", "refused"]
    deadline_ms: int
    decision_retention_days: int
    events_retention_days: int
    dlq_retention_days: int
    log_retention_days: int
    training_retention_days: int
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    score_memory_mb: int
    score_snapshots: Literal["on", "off"]
    memory_mb: int
    requests_per_second: int
    requests_burst: int
    merchant_requests_per_second: int
    merchant_requests_burst: int
    merchant_requests_per_day: int
    gates: GateSettings
    promotion: Literal["policy", "person"]
    approval: Literal["none", "second_person"]
    canary_shares: tuple[float, ...]
    guard: GuardSettings
    retrain_schedule: str | None
    training_image_tag: str
    training_instance: str
    training_volume_gb: int
    training_max_hours: int
    spark_max_vcpu: int
    healing_concurrency: int
    monitor_schedule: str | None
    alarm_email: str | None

    @property
    def redelivery_horizon_days(self) -> int:
        """Upper bound until an event is redelivered: a table's stream, bus retries, the queue, the DLQ."""
        return STREAM_DAYS + BUS_RETRY_DAYS + self.events_retention_days + self.dlq_retention_days

    @classmethod
    def from_context(cls, stages: object, stage: str) -> StageSettings:
        """Parse `stages[stage]`. Raises SettingsError for a missing, unknown or unusable setting."""
        if not isinstance(stages, Mapping) or stage not in stages:
            known = ", ".join(sorted(stages)) if isinstance(stages, Mapping) else "none"
            raise SettingsError(f"stage {stage!r} is not in cdk.json (it has: {known}); use -c stage=<name>")
        values = dict(stages[stage])
        settings = cls(stage=stage, **_read(cls, stage, values, frozenset({"stage"})))
        _check(settings)
        return settings


_NULL = {"alarm_email", "monitor_schedule", "retrain_schedule"}
"""Settings that may be null; CDK drops null values from the context."""


def _read(
    cls: type[Any], stage: str, values: Mapping[str, Any], known: frozenset[str], prefix: str = ""
) -> dict[str, Any]:
    """The members of one object of the context, checked against their types."""
    names = {field.name for field in fields(cls)} - known
    _refuse(stage, "lacks", {prefix + name for name in names - set(values) - _NULL})
    _refuse(stage, "has unknown", {prefix + name for name in set(values) - names})
    hints = get_type_hints(cls)
    return {name: _typed(hints[name], stage, prefix + name, values.get(name)) for name in names}


def _refuse(stage: str, complaint: str, names: set[str]) -> None:
    if names:
        raise SettingsError(f"stage {stage!r} {complaint} settings: {', '.join(sorted(names))}")


def _typed(expected: Any, stage: str, name: str, value: Any) -> Any:
    if is_dataclass(expected) and isinstance(expected, type) and isinstance(value, Mapping):
        return expected(**_read(expected, stage, value, frozenset(), f"{name}."))
    if get_origin(expected) is tuple and isinstance(value, list):
        return tuple(_typed(float, stage, name, each) for each in value)
    if get_origin(expected) is Literal:
        if value in get_args(expected):
            return value
        choices = " or ".join(get_args(expected))
        raise SettingsError(f"stage {stage!r}: {name} is {value!r}, it must be {choices}")
    kinds = get_args(expected) or (expected,)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) in kinds:
        return value
    wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
    raise SettingsError(f"stage {stage!r}: {name} is {value!r}, it must be of type {wanted}")


_BOUNDS: dict[str, tuple[float, float]] = {
    "deadline_ms": (20, 20_000),
    "decision_retention_days": (1, 3_660),
    "events_retention_days": (1, 14),
    "dlq_retention_days": (1, 14),
    "training_retention_days": (1, 3_660),
    "score_memory_mb": (256, 10_240),
    "memory_mb": (128, 10_240),
    "requests_per_second": (1, 10_000),
    "requests_burst": (1, 5_000),
    "merchant_requests_per_second": (1, 10_000),
    "merchant_requests_burst": (1, 5_000),
    "merchant_requests_per_day": (1, 1_000_000_000),
    "training_volume_gb": (1, 16_384),
    "training_max_hours": (1, 120),
    "spark_max_vcpu": (4, 400),
    "healing_concurrency": (2, 1_000),
}


def _check(settings: StageSettings) -> None:
    for name, (low, high) in _BOUNDS.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise SettingsError(f"stage {settings.stage!r}: {name} is {value}, it must be {low} to {high}")
    _check_models(settings)
    if settings.log_retention_days not in LOG_RETENTION_DAYS:
        offered = ", ".join(map(str, LOG_RETENTION_DAYS))
        raise SettingsError(f"stage {settings.stage!r}: log_retention_days must be one of {offered}")
    if settings.dlq_retention_days < settings.events_retention_days:
        raise SettingsError(
            f"stage {settings.stage!r}: dlq_retention_days must not be shorter than events_retention_days, "
            "an event keeps its age when it moves to the DLQ"
        )
    for name in ("requests_per_second", "requests_burst"):
        if getattr(settings, f"merchant_{name}") > getattr(settings, name):
            raise SettingsError(
                f"stage {settings.stage!r}: merchant_{name} must not be above {name}, "
                "or one merchant could use up the whole stage"
            )
    if settings.stage == "prod":
        _check_prod(settings)


_RANDOM_AUC = 0.5
_SHARE = (0.0, 1.0)
_MODEL_BOUNDS: dict[str, tuple[float, float]] = {
    "gates.min_auc": _SHARE,
    "gates.max_auc_loss": _SHARE,
    "gates.min_slope": (-100.0, 1.0),
    "gates.max_slope": (1.0, 100.0),
    "gates.max_ece": _SHARE,
    "gates.max_psi": (0.0, 10.0),
    "gates.min_air": _SHARE,
    "gates.max_score_us_p99": (1.0, 1e6),
    "gates.max_without_reasons": _SHARE,
    "gates.min_reason_stability": _SHARE,
    "gates.min_approval_rate": _SHARE,
    "gates.min_profit_per_unit": (-1.0, 1.0),
    "guard.hours": (0, 720),
    "guard.min_decisions": (1, 1_000_000),
    "guard.max_degraded": _SHARE,
    "guard.max_approval_change": _SHARE,
}


def _check_models(settings: StageSettings) -> None:
    if settings.stage == "prod" and settings.gates.min_auc <= _RANDOM_AUC:
        raise SettingsError(
            f"stage 'prod': gates.min_auc must be above {_RANDOM_AUC}, the value of a random score"
        )
    for path, (low, high) in _MODEL_BOUNDS.items():
        part, _, name = path.partition(".")
        value = getattr(getattr(settings, part), name)
        if not low <= value <= high:
            raise SettingsError(
                f"stage {settings.stage!r}: {path} is {value:g}, it must be {low:g} to {high:g}"
            )
    shares = settings.canary_shares
    if list(shares) != sorted(set(shares)) or not all(0.0 < share < 1.0 for share in shares):
        raise SettingsError(f"stage {settings.stage!r}: canary_shares must rise, each above 0 and below 1")
    if settings.approval == "second_person" and settings.promotion == "policy":
        raise SettingsError(
            f"stage {settings.stage!r}: a promotion by policy asks no second person; "
            'set "promotion": "person" or "approval": "none" in cdk.json'
        )


def _check_prod(settings: StageSettings) -> None:
    if settings.replay_clock == "allowed":
        raise SettingsError(
            "stage 'prod' must refuse the replay clock: a caller could choose the moment of its decision; "
            'set "replay_clock": "refused" in cdk.json'
        )
    if settings.removal != "retain" or not (
        settings.termination_protection and settings.point_in_time_recovery
    ):
        raise SettingsError(
            'stage \'prod\' must keep its data: set "removal": "retain", '
            '"termination_protection": true and "point_in_time_recovery": true in cdk.json'
        )
