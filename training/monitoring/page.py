"""The monitoring report as one page."""

from __future__ import annotations

from pathlib import Path

from training.monitoring.monitor import Monitoring
from training.monitoring.plots import SHIFTED, plots
from training.monitoring.signals import LIMITS, signals
from training.pages.document import document


def page(found: Monitoring) -> str:
    """The whole document."""
    return document(
        Path(__file__).parent,
        plots(found),
        m=found,
        signals=list(signals(found)),
        limits=LIMITS,
        shifted=found.features[:SHIFTED],
        unread=_unread(found),
        ages=[cell.days for cell in found.vintages[0].by_age] if found.vintages else [],
    )


def _unread(found: Monitoring) -> list[tuple[str, dict[str, int]]]:
    """Views by the states that their values came from."""
    return list(found.population["states"].items())
