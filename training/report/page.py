"""report.html: an evaluation and its card as one page that a browser shows without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from training.report.figures import figures

FOLDER = Path(__file__).parent


def page(evaluation: Mapping[str, Any], card: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    """The whole document; `texts` are the reasons' by code. Everything that is told is escaped; figures are inline SVG."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share, "number": _number, "count": _count, "signed": _signed}
    drawn = {name: Markup(svg) for name, svg in figures(evaluation).items()}  # noqa: S704 - our own figures
    return environment.get_template("page.html.jinja").render(
        e=evaluation, card=card, figures=drawn, features=_moved(evaluation["stability"]), texts=texts
    )


def _moved(stability: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    """Name, CSI and both missing shares of the features that moved most."""
    ranked = sorted(stability["csi"].items(), key=lambda one: (-one[1], one[0]))[:10]
    return [(name, value, *stability["missing"][name]) for name, value in ranked]


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
