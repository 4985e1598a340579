"""report.html: an evaluation and its model card as one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.pages.document import document
from training.report.figures import IMPORTANT, MOVED, figures
from training.report.verdicts import psi_verdict, verdicts


def page(evaluation: Mapping[str, Any], card: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    """The whole HTML document; `texts` are the reasons' texts by code."""
    moved = _moved(evaluation["stability"])
    return document(
        Path(__file__).parent,
        figures(evaluation),
        e=evaluation,
        card=card,
        features=moved,
        texts=texts,
        verdicts=verdicts(evaluation),
        psi_verdict=psi_verdict,
        important=evaluation["importance"][:IMPORTANT],
    )


def _moved(stability: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    """(name, CSI, missing share early, missing share late) of the features that moved most."""
    ranked = sorted(stability["csi"].items(), key=lambda pair: (-pair[1], pair[0]))[:MOVED]
    return [(name, value, *stability["missing"][name]) for name, value in ranked]
