"""CloudWatch metrics of the monitoring report."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from candor.edge.telemetry import NAMESPACE
from training.monitoring.monitor import Monitoring
from training.monitoring.signals import signals

SERVICE: Final = "monitor"
"""Value of the dimension `service`, which separates these metrics from those of functions."""

_AT_ONCE: Final = 500
"""CloudWatch takes 1,000 at a time."""


def publish(cloudwatch: Any, report: Monitoring, stage: str) -> None:
    """Write all metrics; botocore's errors are not caught."""
    data = metrics(report, stage)
    while part := list(islice(data, _AT_ONCE)):
        cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=part)


def metrics(report: Monitoring, stage: str) -> Iterator[dict[str, Any]]:
    """Yield metric data: the watched signals, plain figures, and PSI and missing rate of every feature."""
    dimensions = [{"Name": "service", "Value": SERVICE}, {"Name": "stage", "Value": stage}]

    def datum(name: str, value: float, *more: dict[str, str], unit: str = "None") -> dict[str, Any]:
        return {"MetricName": name, "Dimensions": [*dimensions, *more], "Value": value, "Unit": unit}

    for signal in signals(report):
        yield datum(signal.name, signal.value)
    yield datum("DecisionsMonitored", report.population["decisions"], unit="Count")
    yield datum("DegradedShare", report.population["degraded_share"])
    yield datum("ScorePSI", report.score.psi)
    calibration = report.calibration
    if calibration is not None:
        yield datum("BadRateRatio", calibration.ratio)
        yield datum("CalibrationError", calibration.ece)
        if calibration.slope is not None:
            yield datum("CalibrationSlope", calibration.slope)
    for feature in report.features:
        named = {"Name": "feature", "Value": feature.name}
        yield datum("FeaturePSI", feature.psi, named)
        yield datum("FeatureMissing", feature.missing[1], named)
