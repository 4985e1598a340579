"""HTML page of the monitoring report."""

from __future__ import annotations

from pathlib import Path

from training.monitoring.monitor import Monitoring
from training.monitoring.plots import SHIFTED, plots
from training.monitoring.signals import LIMITS, signals
from training.pages.document import document


def page(report: Monitoring) -> str:
    """The whole HTML document."""
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
    """Counts of the states of each view's values, by view."""
    return list(report.population["states"].items())
