"""A monitoring report as tables in the terminal."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from cli.output import print_pairs
from training.monitoring.monitor import Monitoring
from training.monitoring.signals import LIMITS, Signal

FEATURES_SHOWN: Final = 15
"""So many features are printed, the most shifted ones; JSON and the page have all."""


def print_report(found: Monitoring, watched: list[Signal]) -> None:
    """All of it, as short as it can be."""
    console = Console()
    print_pairs(
        {"run": found.run, "bundle": found.bundle[:12], "snapshot": f"{found.snapshot['rows']} checkouts"}
        | {name: format_rfc3339(getattr(found, name)) for name in ("since", "until", "observed_until")}
        | {name: _plain(found.population[name]) for name in found.population if name != "states"}
    )
    console.print(_watched(watched))
    console.print(_drifts(found))
    if found.calibration is not None:
        told = found.calibration
        print_pairs(
            {
                "labels": f"{told.n}, {told.bads} bad",
                "bad rate": f"{told.observed:.4f}, predicted {told.predicted:.4f}",
                "ratio": _ranged(told.ratio, told.ratio_interval),
                "calibration slope": _ranged(told.slope, told.slope_interval),
                "calibration intercept": _number(told.intercept),
                "expected calibration error": f"{told.ece:.4f}",
            }
        )
    for table in (_vintages(found), _approvals(found), _segments(found)):
        console.print(table)


def _watched(found: list[Signal]) -> Table:
    table = Table("watched", "value", "limit", "", "")
    for one in found:
        state = "past its limit" if one.past_limit else ""
        table.add_row(one.name, f"{one.value:.3f}", f"{LIMITS[one.name]:g}", one.words, state)
    return table


def _drifts(found: Monitoring) -> Table:
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
    for one in (found.score, *found.features[:FEATURES_SHOWN]):
        shares = (f"{share:.1%}" for share in one.missing)
        numbers = (f"{number:.3f}" for number in (one.psi, one.by_chance, one.jsd))
        table.add_row(one.name, *numbers, *shares, one.state)
    return table


def _vintages(found: Monitoring) -> Table:
    table = Table(
        "month", "loans", "immature", "mature", "bad", "bad rate", "predicted", "ratio", title="vintages"
    )
    for one in found.vintages:
        counts = (one.loans, one.immature, one.mature, one.bads)
        ratio = _ranged(one.ratio, one.ratio_interval)
        table.add_row(one.month, *map(str, counts), _share(one.bad_rate), _share(one.predicted), ratio)
    return table


def _approvals(found: Monitoring) -> Table:
    table = Table("from", "decisions", "approved", "rate", "95 %", title="approvals")
    for one in found.approvals.periods:
        low, high = one.interval
        start = format_rfc3339(one.start)[:10]
        table.add_row(start, str(one.n), str(one.approved), f"{one.rate:.1%}", f"{low:.1%} to {high:.1%}")
    return table


def _segments(found: Monitoring) -> Table:
    columns = ("n", "approved", "PD", "score PSI", "mature", "bad", "predicted", "ratio")
    table = Table("segment", *columns, title="segments")
    for one in found.segments:
        score = "" if one.score_psi is None else f"{one.score_psi:.3f} {one.score_state}"
        known = (str(one.mature), str(one.bads), _share(one.predicted), _number(one.ratio))
        rates = (f"{one.approved / one.n:.1%}", f"{one.mean_pd:.3f}")
        table.add_row(f"{one.by} {one.value}", str(one.n), *rates, score, *known)
    return table


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _ranged(value: float | None, interval: tuple[float, float] | None) -> str:
    return (
        "" if value is None or interval is None else f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
