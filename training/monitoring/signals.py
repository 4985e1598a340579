"""Watched signals of a report: each is 0 where chance explains the deviation, and has a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from training.metrics.drift import ACT
from training.monitoring.monitor import FEWEST, Drift, Monitoring

LIMITS: Final = {
    "FeatureDrift": ACT,
    "ScoreDrift": ACT,
    "CalibrationOff": 0.1,
    "BadRateOff": 0.2,
    "ApprovalRateShift": 0.05,
}
"""Limit from which a signal raises an alarm; the stage's CloudWatch alarms have the same."""


class Signal(NamedTuple):
    """One watched number, with an explanation for people."""

    name: str
    value: float
    words: str

    @property
    def past_limit(self) -> bool:
        return self.value >= LIMITS[self.name]


def signals(report: Monitoring) -> Iterator[Signal]:
    """Yield the signals that the report supports; without labels there are none about calibration.

    Drift signals are the largest PSI of a feature, and the score's. The others are the distance of the whole 95 %
    interval from the expected value (slope 1, as many bads as predicted, the approval rate before); that of the bad
    rate is a factor less one, in either direction.
    """
    if report.population["decisions"] >= FEWEST:
        shifted = [feature for feature in report.features if _is_clear(feature)]
        worst = max(shifted, key=lambda feature: feature.psi, default=None)
        yield Signal("FeatureDrift", worst.psi if worst else 0.0, worst.name if worst else "no feature")
        yield Signal("ScoreDrift", report.score.psi if _is_clear(report.score) else 0.0, "PSI of the score")
    calibration = report.calibration
    if calibration is not None and calibration.slope_interval is not None:
        yield Signal(
            "CalibrationOff", calibration.slope_interval.beyond(1.0), f"slope {calibration.slope:.2f}"
        )
    if calibration is not None:
        low, high = calibration.ratio_interval
        factor = max(low - 1.0, 1.0 / high - 1.0, 0.0)
        yield Signal("BadRateOff", factor, f"{calibration.ratio:.2f} times as many bads as predicted")
    change = report.approvals.change_interval
    if change is not None:
        words = f"{100 * (report.approvals.change or 0.0):+.1f} points in the last seven days"
        yield Signal("ApprovalRateShift", change.beyond(0.0), words)


def _is_clear(drift: Drift) -> bool:
    return drift.psi > drift.by_chance
