"""The monitoring report as one HTML page that a browser shows without a network."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from candor.clock import format_rfc3339
from training.monitoring.monitor import Monitoring
from training.monitoring.plots import SHIFTED, plots
from training.monitoring.signals import LIMITS, signals

FOLDER = Path(__file__).parent


def page(found: Monitoring) -> str:
    """The whole document. Everything that is told is escaped; figures are inline SVG."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": _share,
        "number": _number,
        "count": _count,
        "signed": _signed,
        "day": _day,
        "moment": format_rfc3339,
    }
    drawn = {name: Markup(svg) for name, svg in plots(found).items()}  # noqa: S704 - our own figures
    return environment.get_template("page.html.jinja").render(
        m=found,
        figures=drawn,
        signals=list(signals(found)),
        limits=LIMITS,
        shifted=found.features[:SHIFTED],
        unread=_unread(found),
        ages=[cell.days for cell in found.vintages[0].by_age] if found.vintages else [],
    )


def _unread(found: Monitoring) -> list[tuple[str, dict[str, int]]]:
    """Views by the states that their values came from."""
    return list(found.population["states"].items())


def _day(ms: int) -> str:
    return format_rfc3339(ms)[:10]


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
