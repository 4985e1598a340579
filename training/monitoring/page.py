"""The monitoring report as one page."""

from __future__ import annotations

from pathlib import Path

from training.monitoring.monitor import Monitoring
from training.monitoring.plots import SHIFTED, plots
from training.monitoring.signals import LIMITS, signals
from training.pages.document import document


def page(report: Monitoring) -> str:
    """The whole document."""
    return document(
        Path(__file__).parent,
        plots(report),
        m=report,
        signals=list(signals(report)),
        limits=LIMITS,
        shifted=report.features[:SHIFTED],
        unread=_unread(report),
        ages=[cell.days for cell in report.vintages[0].by_age] if report.vintages else [],
    )


def _unread(report: Monitoring) -> list[tuple[str, dict[str, int]]]:
    """Views by the states that their values came from."""
    return list(report.population["states"].items())
