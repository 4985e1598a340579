"""Everything that differs between stages, read from the `stages` context of cdk.json and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

LOG_RETENTION_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827)
"""The retentions, in days, that CloudWatch Logs offers."""

BUS_RETRY_DAYS = 1
"""EventBridge tries a target for at most 24 hours."""

STREAM_DAYS = 1
"""What a table's stream keeps: checkout.decided reaches the bus through one."""


class SettingsError(ValueError):
    """A stage's settings cannot be used; the message names the stage, the setting and the remedy."""


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """One stage, validated. Times carry their unit in the name.

    `replay_clock` lets a caller choose the moment of a decision: for historic data, never in prod.
    `promotion` says who turns a registered bundle into the champion: the gate alone, or a person.
    `monitor_schedule` is EventBridge Scheduler's expression of when the champion's report is made; null: never.
    """

    stage: str
    removal: Literal["retain", "destroy"]
    termination_protection: bool
    point_in_time_recovery: bool
    replay_clock: Literal["allowed", "refused"]
    deadline_ms: int
    decision_retention_days: int
    feature_retention_days: int
    events_retention_days: int
    dlq_retention_days: int
    log_retention_days: int
    training_retention_days: int
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    score_memory_mb: int
    memory_mb: int
    requests_per_second: int
    requests_burst: int
    gate_min_auc: float
    promotion: Literal["policy", "person"]
    training_image_tag: str
    training_instance: str
    training_volume_gb: int
    training_max_hours: int
    monitor_schedule: str | None
    alarm_email: str | None

    @property
    def redelivery_horizon_days(self) -> int:
        """The longest that an event can come back: a table's stream, bus retries, then the queue, then the DLQ."""
        return STREAM_DAYS + BUS_RETRY_DAYS + self.events_retention_days + self.dlq_retention_days

    @classmethod
    def from_context(cls, stages: object, stage: str) -> StageSettings:
        """Parse `stages[stage]`. Raises SettingsError for a missing, unknown or unusable setting."""
        if not isinstance(stages, Mapping) or stage not in stages:
            known = ", ".join(sorted(stages)) if isinstance(stages, Mapping) else "none"
            raise SettingsError(f"stage {stage!r} is not in cdk.json (it has: {known}); use -c stage=<name>")
        values = dict(stages[stage])
        names = {field.name for field in fields(cls)} - {"stage"}
        _refuse(
            stage, "lacks", names - set(values) - {"alarm_email", "monitor_schedule"}
        )  # CDK drops what is null
        _refuse(stage, "has unknown", set(values) - names)
        settings = cls(stage=stage, **{name: _typed(cls, stage, name, values.get(name)) for name in names})
        _check(settings)
        return settings


def _refuse(stage: str, complaint: str, names: set[str]) -> None:
    if names:
        raise SettingsError(f"stage {stage!r} {complaint} settings: {', '.join(sorted(names))}")


def _typed(cls: type[StageSettings], stage: str, name: str, value: Any) -> Any:
    expected = get_type_hints(cls)[name]
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
    "feature_retention_days": (1, 3_660),
    "events_retention_days": (1, 14),
    "dlq_retention_days": (1, 14),
    "training_retention_days": (1, 3_660),
    "score_memory_mb": (256, 10_240),
    "memory_mb": (128, 10_240),
    "requests_per_second": (1, 10_000),
    "requests_burst": (1, 5_000),
    "gate_min_auc": (0.5, 1.0),
    "training_volume_gb": (1, 16_384),
    "training_max_hours": (1, 120),
}


def _check(settings: StageSettings) -> None:
    for name, (low, high) in _BOUNDS.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise SettingsError(f"stage {settings.stage!r}: {name} is {value}, it must be {low} to {high}")
    if settings.log_retention_days not in LOG_RETENTION_DAYS:
        offered = ", ".join(map(str, LOG_RETENTION_DAYS))
        raise SettingsError(f"stage {settings.stage!r}: log_retention_days must be one of {offered}")
    if settings.dlq_retention_days < settings.events_retention_days:
        raise SettingsError(
            f"stage {settings.stage!r}: dlq_retention_days must not be shorter than events_retention_days, "
            "an event keeps its age when it moves to the DLQ"
        )
    if settings.stage == "prod":
        _check_prod(settings)


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
