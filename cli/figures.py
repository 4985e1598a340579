"""Figures of a bundle with their names and units: what each is, and what it is measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple


def _share(value: float) -> str:
    return f"{value:.2%}"


def _number(value: float) -> str:
    return f"{value:.4f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _microseconds(value: float) -> str:
    return f"{value:.1f} µs"


class Figure(NamedTuple):
    """Name of a figure for people, and the function that writes its values."""

    name: str
    text: Callable[[float], str]


_LATEST: Final = "latest part"

FIGURES: Final[Mapping[str, Figure]] = {
    "discrimination.n": Figure(f"checkouts of the {_LATEST}", _count),
    "discrimination.bads": Figure("bads among them", _count),
    "discrimination.auc": Figure("validation AUC", _number),
    "discrimination.auc_low": Figure("validation AUC, 95 % from", _number),
    "discrimination.auc_high": Figure("validation AUC, 95 % to", _number),
    "discrimination.gini": Figure("Gini", _number),
    "discrimination.ks": Figure("KS", _number),
    "discrimination.average_precision": Figure("average precision", _number),
    "calibration.slope": Figure("calibration slope", _number),
    "calibration.intercept": Figure("calibration intercept (log odds)", _number),
    "calibration.ece": Figure("expected calibration error", _share),
    "calibration.brier": Figure("Brier score", _number),
    "calibration.log_loss": Figure("log loss", _number),
    "stability.psi": Figure(f"score PSI, {_LATEST} to earlier", _number),
    "profit.cutoff": Figure("cut-off PD", _share),
    "profit.approval_rate": Figure("approved at the cut-off", _share),
    "profit.bad_rate": Figure("bad rate of the approved", _share),
    "profit.profit_per_unit": Figure("profit of the amount asked for", _share),
    "reasons.without": Figure("declined without a reason", _share),
    "reasons.stability": Figure("same reasons by another seed", _share),
    "latency.score_us_p50": Figure("time of a score, median", _microseconds),
    "latency.score_us_p99": Figure("time of a score, p99", _microseconds),
    "parity.mismatches": Figure("scores unlike LightGBM's", _count),
    "fairness.air": Figure("lowest adverse impact ratio", _number),
}
"""Figures of an evaluation by their path in evaluation.json; `fairness.air` is the lowest of all groups."""

VALIDATION: Final = (
    "validation, by models of the earlier part of the training set on its latest part, with the labels known by the "
    "run's as-of. What the serving model does on live decisions is in `candor models monitor`."
)

_REGISTERED: Final = {
    "auc": "discrimination.auc",
    "auc_low": "discrimination.auc_low",
    "auc_high": "discrimination.auc_high",
    "slope": "calibration.slope",
    "psi": "stability.psi",
    "approval_rate": "profit.approval_rate",
}


def registered_figures(metrics: Mapping[str, float]) -> dict[str, str]:
    """Names and texts of the figures that a registration keeps; a name that is new here stays as it is."""
    known = {name: FIGURES[path] for name, path in _REGISTERED.items()}
    return {
        known[name].name if name in known else name: known[name].text(value)
        if name in known
        else f"{value:.6g}"
        for name, value in metrics.items()
    }


def validation_auc(metrics: Mapping[str, float]) -> str | None:
    """The validation AUC with its interval; None where the run measured none."""
    if metrics.get("auc") is None:
        return None
    interval = (
        f" (95 %: {metrics['auc_low']:.3f} to {metrics['auc_high']:.3f})" if "auc_low" in metrics else ""
    )
    return f"{metrics['auc']:.4f}{interval}"
