"""Tables of a monitoring report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from cli.output import print_pairs
from training.monitoring.monitor import Monitoring
from training.monitoring.signals import LIMITS, Signal

FEATURES_SHOWN: Final = 15
"""Features that are printed, the most shifted first; JSON and the page have all."""


def print_report(report: Monitoring, watched: list[Signal]) -> None:
    """Print the report as tables."""
    console = Console()
    print_pairs(
        {"run": report.run, "bundle": report.bundle[:12], "snapshot": f"{report.snapshot['rows']} checkouts"}
        | {
            "decisions from": format_rfc3339(report.since),
            "until": format_rfc3339(report.until),
            "labels known up to": format_rfc3339(report.observed_until),
        }
        | {name.replace("_", " "): _plain(name, value) for name, value in _counted(report)}
    )
    console.print(_watched(watched))
    console.print(_drifts(report))
    if report.calibration is not None:
        calibration = report.calibration
        print_pairs(
            {
                "labels": f"{calibration.n}, {calibration.bads} bad",
                "bad rate": f"{calibration.observed:.1%}, predicted {calibration.predicted:.1%}",
                "bads to predicted": _ranged(calibration.ratio, calibration.ratio_interval),
                "calibration slope": _ranged(calibration.slope, calibration.slope_interval),
                "calibration intercept (log odds)": _number(calibration.intercept),
                "expected calibration error": f"{calibration.ece:.1%}",
            }
        )
    for table in (_vintages(report), _approvals(report), _segments(report)):
        console.print(table)


def _watched(signals: list[Signal]) -> Table:
    table = Table("watched", "value", "limit", "", "")
    for signal in signals:
        state = "past its limit" if signal.past_limit else ""
        table.add_row(signal.name, f"{signal.value:.3f}", f"{LIMITS[signal.name]:g}", signal.words, state)
    return table


def _drifts(report: Monitoring) -> Table:
    table = Table(
        "",
        "PSI",
        "by chance",
        "JS distance",
        "missing before",
        "now",
        "",
        title="against the training snapshot",
    )
    for feature in (report.score, *report.features[:FEATURES_SHOWN]):
        shares = (f"{share:.1%}" for share in feature.missing)
        numbers = (f"{number:.3f}" for number in (feature.psi, feature.by_chance, feature.jsd))
        table.add_row(feature.name, *numbers, *shares, feature.state)
    return table


def _vintages(report: Monitoring) -> Table:
    table = Table(
        "month",
        "loans",
        "immature",
        "mature",
        "bad",
        "bad rate",
        "95 %",
        "predicted",
        "bads to predicted",
        title="vintages",
    )
    for vintage in report.vintages:
        counts = (vintage.loans, vintage.immature, vintage.mature, vintage.bads)
        ratio = _ranged(vintage.ratio, vintage.ratio_interval)
        table.add_row(
            vintage.month,
            *map(str, counts),
            _share(vintage.bad_rate),
            _interval(vintage.bad_rate_interval),
            _share(vintage.predicted),
            ratio,
        )
    return table


def _approvals(report: Monitoring) -> Table:
    table = Table("from", "decisions", "approved", "rate", "95 %", title="approvals")
    for period in report.approvals.periods:
        start = format_rfc3339(period.start)[:10]
        table.add_row(
            start, str(period.n), str(period.approved), f"{period.rate:.1%}", _interval(period.interval)
        )
    return table


def _segments(report: Monitoring) -> Table:
    columns = (
        "decisions",
        "approved",
        "mean PD",
        "score PSI",
        "mature",
        "bad",
        "predicted",
        "bads to predicted",
    )
    table = Table("segment", *columns, title="segments")
    for segment in report.segments:
        score = "" if segment.score_psi is None else f"{segment.score_psi:.3f} {segment.score_state}"
        known = (str(segment.mature), str(segment.bads), _share(segment.predicted), _number(segment.ratio))
        rates = (f"{segment.approved / segment.n:.1%}", f"{segment.mean_pd:.1%}")
        table.add_row(f"{segment.by} {segment.value}", str(segment.n), *rates, score, *known)
    return table


def _counted(report: Monitoring) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in report.population.items() if name != "states")


def _plain(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {count}" for key, count in value.items()) or "none"
    return f"{value:.1%}" if name.endswith("_share") else str(value)


def _interval(interval: tuple[float, float] | None) -> str:
    return "not known" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def _ranged(value: float | None, interval: tuple[float, float] | None) -> str:
    return (
        "not known"
        if value is None or interval is None
        else f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
    )


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1%}"
