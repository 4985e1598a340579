"""Self-contained HTML documents: variables are escaped, figures are inline SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from candor.clock import format_rfc3339

TEMPLATE = "page.html.jinja"
UNKNOWN = "not known"
"""Text of a figure that is null."""
_SHARED = Path(__file__).parent


def document(folder: Path, figures: Mapping[str, str], **variables: Any) -> str:
    """Render the page template in `folder` with `variables`; `figures` are SVG by name."""
    environment = Environment(
        loader=FileSystemLoader([folder, _SHARED]),
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
        "feature": _feature,
    }
    drawn = {name: Markup(text) for name, text in figures.items()}  # noqa: S704 - our own figures
    return environment.get_template(TEMPLATE).render(figures=drawn, **variables)


def _feature(name: str) -> Markup:
    """Name of a feature that a narrow column may break after its dots."""
    return Markup(".<wbr>").join(name.split("."))


def _day(ms: int) -> str:
    return format_rfc3339(ms)[:10]


def _share(value: float | None, digits: int = 1) -> str:
    return UNKNOWN if value is None else f"{100 * value:.{digits}f} %"


def _number(value: float | None, digits: int = 3) -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None, digits: int = 3) -> str:
    return UNKNOWN if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
