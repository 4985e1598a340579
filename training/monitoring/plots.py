"""Figures of the monitoring page as SVG text, the same bytes for the same report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from candor.clock import DAY, HOUR, SECOND
from candor.units import MONEY, SECONDS, UNKNOWN, exponent
from training.metrics.drift import ACT, WATCH
from training.metrics.intervals import rate_interval
from training.metrics.scores import CalibrationBin
from training.monitoring.monitor import ApprovalPeriod, Approvals, Drift, Monitoring
from training.monitoring.vintages import Vintage
from training.pages.drawing import AMBER, BLUE, INK, PALE, PERCENT, QUIET, RED, svg

FEATURES: Final = 14
SHIFTED: Final = 4
"""Numbers of features drawn by rank, and of those drawn bin by bin."""

_WIDE: Final = (11.2, 2.9)
_HALF: Final = (5.6, 3.3)
_COLOURS: Final = {"act": RED, "watch": AMBER, "unclear": PALE, "stable": BLUE}


def plots(report: Monitoring) -> dict[str, str]:
    """SVG by name; a figure without data is left out."""
    drawn = {
        "drift": svg("drift", (5.6, 4.2), lambda axes: _drift(axes, report.features)),
        "score": svg("score", _HALF, lambda axes: _bins(axes, report.score, Scale(1.0, "PD"))),
        "approvals": svg("approvals", _WIDE, lambda axes: _approvals(axes, report.approvals)),
    }
    for index, feature in enumerate(report.features[:SHIFTED]):
        scale = scale_of(feature, report.units.get(feature.name, UNKNOWN), report.currencies)
        drawn[f"feature{index}"] = svg(f"feature{index}", _HALF, partial(_bins, drift=feature, scale=scale))
    if report.calibration is not None:
        bins = report.calibration.reliability
        drawn["reliability"] = svg("reliability", _HALF, lambda axes: _reliability(axes, bins))
    if any(vintage.mature for vintage in report.vintages):
        width = min(max(2.4 + 1.1 * len(report.vintages), 5.6), 11.2)
        drawn["vintages"] = svg("vintages", (width, 3.1), lambda axes: _vintages(axes, report.vintages))
    return drawn


def _drift(axes: Axes, features: Sequence[Drift]) -> None:
    ranked = features[:FEATURES][::-1]
    most = max(0.3, 1.05 * max(feature.psi for feature in ranked))
    positions = range(len(ranked))
    axes.barh(
        positions,
        [feature.psi for feature in ranked],
        color=[_COLOURS[feature.state] for feature in ranked],
        height=0.7,
    )
    chance = [feature.by_chance for feature in ranked]
    for colour, size, width in (("white", 90, 3.4), (INK, 80, 1.4)):  # seen on a bar and beside it
        axes.scatter(chance, positions, marker="|", color=colour, s=size, linewidths=width, zorder=3)
    for limit in (WATCH, ACT):
        axes.axvline(limit, color=QUIET, linewidth=1, linestyle="--")
    axes.set_yticks(positions, [feature.name for feature in ranked], fontsize=8)
    axes.set(xlabel="PSI", xlim=(0, most))
    axes.grid(visible=False, axis="y")


class Scale(NamedTuple):
    """Unit of an axis: values are divided by `divisor`, `unit` is its name."""

    divisor: float
    unit: str


def scale_of(drift: Drift, unit: str, currencies: Sequence[str]) -> Scale:
    """Scale for the bins of a feature of this unit: money in major units, seconds in days or hours."""
    decimals = exponent(currencies)
    if unit == MONEY:
        return (
            Scale(1.0, "minor units") if decimals is None else Scale(10.0**decimals, " or ".join(currencies))
        )
    if unit == SECONDS:
        longest = max((_edge(label) or 0.0 for label, _, _ in drift.bins), default=0.0)
        return Scale(DAY / SECOND, "days") if longest >= 2 * DAY / SECOND else Scale(HOUR / SECOND, "hours")
    return Scale(1.0, unit)


def _bins(axes: Axes, drift: Drift, scale: Scale) -> None:
    """Draw shares of both sides; a bin that is empty on both is left out."""
    held = [(label, before, now) for label, before, now in drift.bins if before or now]
    labels, *counts = zip(*held, strict=True)
    before, now = (np.array(side) / sum(side) for side in counts)
    positions = np.arange(len(labels))
    axes.bar(positions - 0.2, before, width=0.38, color=PALE, label="snapshot")
    axes.bar(positions + 0.2, now, width=0.38, color=BLUE, label="served")
    axes.set_xticks(
        positions, [_shortened(label, scale.divisor) for label in labels], rotation=40, ha="right", fontsize=8
    )
    words = [scale.unit, "up to"] if "≤" in labels[0] else [scale.unit]
    axes.set(xlabel=", ".join(word for word in words if word), ylabel="share")
    axes.yaxis.set_major_formatter(PERCENT)
    axes.grid(visible=False, axis="x")
    # Above the plot, where no bar can reach.
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2, fontsize=8)


def _shortened(label: str, divisor: float) -> str:
    edge = _edge(label)
    if edge is None:
        return label
    sign = label.rpartition(" ")[0].replace("≤", "")
    number = f"{edge / divisor:.3g}"
    return f"{sign} {f'{float(number):,.0f}' if 'e' in number else number}".strip()


def _edge(label: str) -> float | None:
    """Number in a bin's label; None for `other`, `any` and `missing`."""
    try:
        return float(label.rpartition(" ")[2])
    except ValueError:
        return None


def _approvals(axes: Axes, approvals: Approvals) -> None:
    """Draw the rates with their intervals; a line joins neighbouring periods alone, never across a gap."""
    for run in runs(approvals):
        starts = [datetime.fromtimestamp(period.start / SECOND, UTC) for period in run]
        rates = np.array([period.rate for period in run])
        low, high = (np.array([getattr(period.interval, side) for period in run]) for side in ("low", "high"))
        axes.errorbar(
            starts,
            rates,
            yerr=np.maximum([rates - low, high - rates], 0.0),
            color=BLUE,
            ecolor="#b9cfe4",
            marker="o",
            markersize=4,
        )
    axes.set(ylabel="approved", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PERCENT)


def runs(approvals: Approvals) -> list[list[ApprovalPeriod]]:
    """Periods in runs without a gap: within one, each begins where the one before ends."""
    result = [[period] for period in approvals.periods[:1]]
    for before, period in pairwise(approvals.periods):
        if period.start - before.start == approvals.length:
            result[-1].append(period)
        else:
            result.append([period])
    return result


def _reliability(axes: Axes, bins: Sequence[CalibrationBin]) -> None:
    intervals = [rate_interval(row.bads, row.n) for row in bins]
    observed = np.array([row.observed for row in bins])
    predicted = [row.predicted for row in bins]
    errors = np.array(
        [
            observed - [interval.low for interval in intervals],
            [interval.high for interval in intervals] - observed,
        ]
    )
    most = 1.08 * max(*predicted, *observed, 0.01)
    axes.plot([0, most], [0, most], color=QUIET, linestyle="--", linewidth=1)
    axes.errorbar(
        predicted, observed, yerr=np.maximum(errors, 0.0), fmt="o", color=BLUE, ecolor="#b9cfe4", markersize=5
    )
    axes.set(xlabel="predicted PD", ylabel="observed bad rate", xlim=(0, most), ylim=(0, None))
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_formatter(PERCENT)


def _vintages(axes: Axes, vintages: Sequence[Vintage]) -> None:
    """Draw loans by month, pale while immature; bad rate of the mature ones with its interval, and their mean PD."""
    positions = np.arange(len(vintages))
    axes.bar(
        positions, [vintage.mature for vintage in vintages], color="#b9cfe4", width=0.6, label="mature loans"
    )
    axes.bar(
        positions,
        [vintage.immature for vintage in vintages],
        bottom=[vintage.mature for vintage in vintages],
        color="#eef1f4",
        edgecolor=PALE,
        linewidth=0.6,
        hatch="////",
        width=0.6,
        label="immature",
    )
    labels = [f"{vintage.month}\n{vintage.bads:,} of {vintage.mature:,} bad" for vintage in vintages]
    axes.set_xticks(positions, labels, fontsize=8)
    axes.set(ylabel="loans")
    axes.grid(visible=False)
    rates = axes.twinx()
    known = [
        (position, vintage)
        for position, vintage in zip(positions, vintages, strict=True)
        if vintage.bad_rate_interval is not None
    ]
    where = [position for position, _ in known]
    observed = np.array([vintage.bad_rate for _, vintage in known], dtype=float)
    low = observed - np.array(
        [vintage.bad_rate_interval.low for _, vintage in known if vintage.bad_rate_interval]
    )
    high = (
        np.array([vintage.bad_rate_interval.high for _, vintage in known if vintage.bad_rate_interval])
        - observed
    )
    rates.errorbar(
        where, observed, yerr=np.maximum([low, high], 0.0), fmt="o", color=RED, markersize=6, label="bad rate"
    )
    predicted = [vintage.predicted for _, vintage in known]
    rates.scatter(where, predicted, marker="_", color=INK, s=420, linewidths=1.6, label="predicted", zorder=3)
    rates.set(ylabel="bad rate of the mature", ylim=(0, None))
    rates.yaxis.set_major_formatter(PERCENT)
    rates.grid(visible=False)
    handles = [handle for each in (axes, rates) for handle in each.get_legend_handles_labels()[0]]
    names = [name for each in (axes, rates) for name in each.get_legend_handles_labels()[1]]
    rates.legend(handles, names, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, fontsize=8)
