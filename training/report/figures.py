"""Figures of an evaluation as SVG text, the same bytes for the same evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes

from training.metrics.drift import ACT, WATCH
from training.metrics.intervals import rate_interval
from training.pages.drawing import AMBER, BLUE, GREEN, INK, PALE, PERCENT, QUIET, RED, WHOLE_PERCENT, svg

IMPORTANT: Final = 12
MOVED: Final = 10
"""Numbers of features whose importance, and whose shift, is shown."""


def figures(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """SVG by name; a figure whose section of the evaluation is null or empty is left out."""
    drawn: dict[str, tuple[Callable[[Axes, Any], None], Any]] = {
        "reliability": (_reliability, evaluation["calibration"]["reliability"]),
        "gains": (_gains, evaluation["gains"]),
        "profit": (_profit, evaluation["profit"]),
        "segments": (_segments, _measured_segments(evaluation["discrimination"])),
        "importance": (_importance, evaluation["importance"][:IMPORTANT]),
        "vintages": (_vintages, evaluation["vintages"]),
        "csi": (_csi, evaluation["stability"]["csi"]),
        "reasons": (_reasons, evaluation["reasons"]["frequency"]),
        "alternatives": (_alternatives, (evaluation["fairness"] or {}).get("alternatives")),
    }
    return {
        name: svg(name, _size(name, part), _of(draw, part)) for name, (draw, part) in drawn.items() if part
    }


def _of(draw: Callable[[Axes, Any], None], part: Any) -> Callable[[Axes], None]:
    return lambda axes: draw(axes, part)


def _size(name: str, part: Any) -> tuple[float, float]:
    """Width and height in inches: vintages grow with their months, bar charts with their bars."""
    if name == "vintages":
        return min(max(1.2 + 0.85 * len(part), 4.2), 11.2), 2.9
    rows = {
        "csi": min(len(part), MOVED),
        "reasons": len(part),
        "importance": 1.6 * len(part),
        "segments": len(part["segments"]) if name == "segments" else 0,
    }
    return 5.6, min(0.26 * rows[name] + 0.75, 8.0) if name in rows else 3.2


def _reliability(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    predicted, observed = ([row[name] for row in bins] for name in ("predicted", "observed"))
    most = 1.08 * max([*predicted, *observed, 0.01])
    intervals = [rate_interval(row["bads"], row["n"]) for row in bins]
    error = np.maximum(
        [
            [rate - interval.low for rate, interval in zip(observed, intervals, strict=True)],
            [interval.high - rate for rate, interval in zip(observed, intervals, strict=True)],
        ],
        0.0,
    )
    axes.plot([0, most], [0, most], color=QUIET, linestyle="--", linewidth=1)
    axes.errorbar(predicted, observed, yerr=error, fmt="o", color=BLUE, ecolor="#b9cfe4", markersize=5)
    axes.set(xlabel="predicted PD", ylabel="observed bad rate", xlim=(0, most), ylim=(0, None))
    axes.xaxis.set_major_formatter(WHOLE_PERCENT)
    axes.yaxis.set_major_formatter(WHOLE_PERCENT)


def _gains(axes: Axes, deciles: Sequence[Mapping[str, Any]]) -> None:
    total = sum(decile["n"] for decile in deciles)
    seen, shares = 0, [0.0]
    for decile in deciles:
        seen += decile["n"]
        shares.append(seen / total)
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1)
    axes.plot(
        shares,
        [0.0, *(decile["cumulative_bads"] for decile in deciles)],
        color=BLUE,
        marker="o",
        markersize=4,
    )
    axes.set(
        xlabel="share of checkouts, riskiest first", ylabel="share of bads found", xlim=(0, 1), ylim=(0, 1.02)
    )
    axes.xaxis.set_major_formatter(WHOLE_PERCENT)
    axes.yaxis.set_major_formatter(WHOLE_PERCENT)


def _profit(axes: Axes, part: Mapping[str, Any]) -> None:
    curve = part["curve"]
    rates = [point["approval_rate"] for point in curve]
    axes.plot(rates, [point["profit_per_unit"] for point in curve], color=GREEN, marker="o", markersize=3.5)
    axes.axhline(0, color=QUIET, linewidth=1)
    axes.axvline(part["approval_rate"], color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        f"cut-off PD {part['cutoff']:.1%}",
        (part["approval_rate"], 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),  # above the plot, where no curve can reach
        textcoords="offset points",
        ha="center",
    )
    axes.set(xlabel="approval rate", ylabel="profit, share of the amount", xlim=(0, 1.01))
    bads = axes.twinx()
    bads.plot(rates, [point["bad_rate"] for point in curve], color=AMBER, linewidth=1.4)
    bads.set_ylabel("bad rate of the approved", color=AMBER)
    bads.set_ylim(0, None)
    bads.grid(visible=False)
    for axis, formatter in (
        (axes.xaxis, WHOLE_PERCENT),
        (axes.yaxis, PERCENT),
        (bads.yaxis, WHOLE_PERCENT),
    ):
        axis.set_major_formatter(formatter)


def _measured_segments(discrimination: Mapping[str, Any]) -> dict[str, Any] | None:
    """The segments with an AUC, beside that of all checkouts; None if there is none."""
    segments = [segment for segment in discrimination["segments"] if segment["auc"] is not None]
    whole = {name: discrimination[name] for name in ("auc", "auc_low", "auc_high")}
    return {**whole, "segments": segments} if segments else None


def _segments(axes: Axes, part: Mapping[str, Any]) -> None:
    segments = part["segments"][::-1]
    positions = range(len(segments))
    areas = [segment["auc"] for segment in segments]
    below = [max(segment["auc"] - segment["auc_low"], 0.0) for segment in segments]
    above = [max(segment["auc_high"] - segment["auc"], 0.0) for segment in segments]
    axes.axvspan(part["auc_low"], part["auc_high"], color="#eef3f8")
    axes.axvline(part["auc"], color=BLUE, linewidth=1)
    axes.errorbar(areas, positions, xerr=[below, above], fmt="o", color=INK, ecolor=QUIET, markersize=4)
    names = [f"{segment['by']} {segment['value']} ({segment['n']:,})" for segment in segments]
    axes.set_yticks(list(positions), names, fontsize=8)
    axes.set(xlabel="AUC with 95 % interval; the band is all checkouts", ylim=(-0.6, len(segments) - 0.4))
    axes.grid(visible=False, axis="y")


def _vintages(axes: Axes, months: Sequence[Mapping[str, Any]]) -> None:
    positions = range(len(months))
    rates = np.array([month["bad_rate"] for month in months])
    low, high = (np.array([month[side] for month in months]) for side in ("low", "high"))
    colours = [BLUE if month["mature"] else "#cfdbe7" for month in months]
    axes.bar(positions, rates, color=colours, width=0.6)
    errors = np.maximum([rates - low, high - rates], 0.0)
    axes.errorbar(positions, rates, yerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    step = max(1, len(months) // 12)
    labels = [f"{month['month']}\n{month['bads']:,} of {month['n']:,}" for month in months]
    axes.set_xticks(list(positions)[::step], labels[::step], fontsize=8)
    axes.set(ylabel="bad rate, 95 % interval", xlim=(-0.6, len(months) - 0.4), ylim=(0, None))
    axes.yaxis.set_major_formatter(WHOLE_PERCENT)
    axes.grid(visible=False, axis="x")


def _csi(axes: Axes, indices: Mapping[str, float]) -> None:
    ranked = sorted(indices.items(), key=lambda pair: (-pair[1], pair[0]))[:MOVED][::-1]
    colours = [RED if value >= ACT else AMBER if value >= WATCH else BLUE for _, value in ranked]
    axes.barh([name for name, _ in ranked], [value for _, value in ranked], color=colours, height=0.7)
    for limit in (WATCH, ACT):
        axes.axvline(limit, color=QUIET, linewidth=1, linestyle="--")
    axes.set(xlabel="CSI, latest part against earlier part", xlim=(0, max(0.3, 1.05 * max(indices.values()))))
    axes.grid(visible=False, axis="y")


def _importance(axes: Axes, table: Sequence[Mapping[str, Any]]) -> None:
    ranked = table[::-1]
    positions = np.arange(len(ranked))
    axes.barh(positions + 0.2, [row["contribution"] for row in ranked], color=BLUE, height=0.38)
    axes.set_yticks(positions, [row["feature"] for row in ranked], fontsize=8)
    axes.set_xlabel("mean |contribution|, log odds", color=BLUE)
    axes.grid(visible=False, axis="y")
    if ranked[0]["gain"] is None:
        return
    gain = axes.twiny()
    gain.barh(positions - 0.2, [row["gain"] for row in ranked], color=PALE, height=0.38)
    gain.set_xlabel("share of the gain in training", color="#616e7c")
    gain.xaxis.set_major_formatter(WHOLE_PERCENT)
    gain.grid(visible=False)


def _reasons(axes: Axes, frequency: Mapping[str, float]) -> None:
    ranked = sorted(frequency.items(), key=lambda pair: (pair[1], pair[0]))
    axes.barh([code for code, _ in ranked], [share for _, share in ranked], color=BLUE, height=0.7)
    axes.set(xlabel="share of the declined with this reason")
    axes.xaxis.set_major_formatter(WHOLE_PERCENT)
    axes.grid(visible=False, axis="y")


def _alternatives(axes: Axes, candidates: Sequence[Mapping[str, Any]]) -> None:
    best = sorted(
        (candidate for candidate in candidates if candidate["on_frontier"]),
        key=lambda candidate: float(candidate["air"]),
    )
    axes.scatter(
        [candidate["air"] for candidate in candidates],
        [candidate["auc"] for candidate in candidates],
        color="#b9cfe4",
        s=18,
    )
    axes.plot(
        [candidate["air"] for candidate in best],
        [candidate["auc"] for candidate in best],
        color=BLUE,
        marker="o",
        markersize=4,
    )
    axes.set(xlabel="lowest adverse impact ratio", ylabel="AUC")
