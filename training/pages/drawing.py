"""Drawing figures as SVG text: one palette, and the same bytes for the same figures."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

INK: Final = "#1f2933"
QUIET: Final = "#9aa5b1"
PALE: Final = "#c3ccd5"
BLUE: Final = "#2f6fb0"
AMBER: Final = "#c4702b"
GREEN: Final = "#3c8a63"
RED: Final = "#b3403a"

PERCENT: Final = PercentFormatter(1.0)
WHOLE_PERCENT: Final = PercentFormatter(1.0, decimals=0)

_STYLE: Final[Any] = {  # matplotlib types each of its parameters
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ecf0",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


def svg(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    """Draw one figure of `size` inches; its ids are salted with its name, since all figures share one document."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
