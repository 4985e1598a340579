"""Distances of two populations: PSI, Jensen-Shannon distance, missing rates.

Pure functions over arrays; NaN is missing. Each docstring names the source of its formula. `psi_by_chance` is the
sampling noise of PSI, large for small populations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

WATCH: Final = 0.10
ACT: Final = 0.25
"""PSI from which a shift is watched, and acted on (N. Siddiqi, Credit Risk Scorecards, Wiley 2006)."""

BINS: Final = 10
BY_VALUE: Final = 10
"""Features with at most this many distinct values have a bin for each of them."""


@dataclass(frozen=True)
class Bins:
    """Bins frozen on a snapshot, then one for missing values.

    `by_value`: a bin for each of `edges` and one for all other values; else bins up to and including each edge, the
    last one unbounded.
    """

    edges: tuple[float, ...]
    by_value: bool

    @classmethod
    def frozen(cls, snapshot: ArrayLike, bins: int = BINS) -> Bins:
        """Equal-count bins of the snapshot's known values; a value that would fill several bins has one."""
        values = np.asarray(snapshot, dtype=float)
        known = values[~np.isnan(values)]
        distinct = np.unique(known)
        if len(distinct) <= BY_VALUE:
            return cls(tuple(distinct.tolist()), by_value=True)
        # Every edge is a value of the snapshot, so that ties fall on one side.
        edges = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf"))
        return cls(tuple(edges[edges < distinct[-1]].tolist()), by_value=False)

    def counts(self, values: ArrayLike) -> Counts:
        """Number of values in each bin; the last bin counts the missing values."""
        array = np.asarray(values, dtype=float)
        known = array[~np.isnan(array)]
        edges = np.array(self.edges)
        positions = np.searchsorted(edges, known, side="left")
        if self.by_value:
            inside = positions < len(edges)
            inside[inside] = edges[positions[inside]] == known[inside]
            positions = np.where(inside, positions, len(edges))
        return np.append(np.bincount(positions, minlength=len(edges) + 1), len(array) - len(known))

    def labels(self) -> list[str]:
        """Label of each bin for people."""
        shown = [f"{edge:.6g}" for edge in self.edges]
        if self.by_value:
            return [*shown, "other", "missing"]
        return [*(f"≤ {edge}" for edge in shown), f"> {shown[-1]}" if shown else "any", "missing"]


def psi(before: ArrayLike, now: ArrayLike) -> float:
    """Population stability index of two arrays of bin counts: Σ (now − before) · ln(now / before) over their shares.

    Siddiqi 2006; it is the symmetric divergence J of S. Kullback and R. Leibler, On information and sufficiency, 1951.
    A bin that is empty on one side counts as half an observation there; one that is empty on both sides is ignored.
    """
    p, q = (_shares(counts) for counts in _filled(before, now))
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(before: ArrayLike, now: ArrayLike) -> float:
    """Jensen-Shannon distance of two arrays of bin counts, to base 2: 0 for equal shares, 1 for disjoint ones.

    The square root of the divergence of J. Lin, Divergence measures based on the Shannon entropy, 1991; the root is a
    metric (D. Endres and J. Schindelin, 2003). Defined for empty bins.
    """
    p, q = _shares(np.asarray(before, dtype=float)), _shares(np.asarray(now, dtype=float))
    middle = (p + q) / 2.0
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2.0
    return math.sqrt(max(divergence, 0.0))


def psi_by_chance(before: ArrayLike, now: ArrayLike, level: float) -> float:
    """The PSI that two samples of one population, as large as these, exceed with probability 1 − `level`.

    Without a shift, PSI / (1/n + 1/m) follows χ² with bins − 1 degrees of freedom: B. Yurdakul and J. Naranjo,
    Statistical properties of the population stability index, Journal of Risk Model Validation 14 (4), 2020.
    """
    before_counts, now_counts = np.asarray(before), np.asarray(now)
    bins = int(np.count_nonzero(before_counts + now_counts))
    if bins < 2:
        return 0.0
    return float(stats.chi2.ppf(level, bins - 1) * (1.0 / before_counts.sum() + 1.0 / now_counts.sum()))


def state_of(index: float, by_chance: float) -> str:
    """State of a PSI: `stable`, `watch` or `act`; `unclear` for a PSI at or above `WATCH` that chance explains."""
    if index < WATCH:
        return "stable"
    if index <= by_chance:
        return "unclear"
    return "act" if index >= ACT else "watch"


def missing_rate(values: ArrayLike) -> float:
    """Share of the values that are NaN."""
    array = np.asarray(values, dtype=float)
    return float(np.isnan(array).mean()) if len(array) else 0.0


def _filled(before: ArrayLike, now: ArrayLike) -> tuple[Floats, Floats]:
    """Counts of the non-empty bins, with half an observation where a bin is empty on one side."""
    before_counts, now_counts = np.asarray(before, dtype=float), np.asarray(now, dtype=float)
    held = (before_counts + now_counts) > 0.0
    return np.maximum(before_counts[held], 0.5), np.maximum(now_counts[held], 0.5)


def _shares(counts: Floats) -> Floats:
    return np.asarray(counts / counts.sum())


def _relative_entropy(p: Floats, q: Floats) -> float:
    held = p > 0.0
    return float(np.sum(p[held] * np.log2(p[held] / q[held])))
