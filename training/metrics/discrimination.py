"""Discrimination of scores between bads and goods: on all rows, by segment, by decile, and against the champion."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_curve

from candor.clock import format_rfc3339
from candor.units import MISSING, money
from training.dataset.read import TrainingSet
from training.dataset.split import MIN_OF_EACH, Floats
from training.metrics.scores import auc, auc_difference, auc_interval

Labels = NDArray[np.int8]
Rows = NDArray[np.int64]

MOST_VALUES: Final = 12
"""Most values of a column that become segments, the most frequent ones."""
_REQUEST: Final = "request."


def enough(bad: Labels) -> bool:
    """True if there are enough bads and goods for a meaningful AUC."""
    return min(int(bad.sum()), len(bad) - int(bad.sum())) >= MIN_OF_EACH


def discrimination(
    data: TrainingSet, rows: Rows, scores: Mapping[str, Floats], pd: Floats, features: Sequence[str]
) -> dict[str, Any]:
    """AUC with its 95 % bootstrap interval, Gini, KS and the PD where it is reached, average precision, segments.

    `scores` are each seed's raw scores on `rows`, the serving seed's first; `pd` is the latter's calibrated PD.
    """
    bad, served = data.bad[rows], next(iter(scores.values()))
    interval, area = auc_interval(bad, served), auc(bad, served)
    distance, at = _ks(bad, pd)
    return {
        "n": len(bad),
        "bads": int(bad.sum()),
        "auc": area,
        "auc_low": interval.low,
        "auc_high": interval.high,
        "gini": 2.0 * area - 1.0,
        "ks": distance,
        "ks_at": at,
        "average_precision": float(average_precision_score(bad, served)),
        "auc_per_seed": {seed: auc(bad, seed_scores) for seed, seed_scores in scores.items()},
        "segments": [
            _segment(by, value, bad[chosen], served[chosen])
            for by, value, chosen in segments(data, rows, features)
        ],
    }


def _ks(bad: Labels, pd: Floats) -> tuple[float, float]:
    false_positive, true_positive, thresholds = roc_curve(bad, pd)
    index = int(np.argmax(true_positive - false_positive))
    return float(true_positive[index] - false_positive[index]), float(min(thresholds[index], np.max(pd)))


def _segment(by: str, value: str, bad: Labels, scores: Floats) -> dict[str, Any]:
    measurable = enough(bad)
    interval = auc_interval(bad, scores, rounds=300) if measurable else None
    return {
        "by": by,
        "value": value,
        "n": len(bad),
        "bads": int(bad.sum()),
        "auc": auc(bad, scores) if measurable else None,
        "auc_low": interval.low if interval else None,
        "auc_high": interval.high if interval else None,
    }


def segments(
    data: TrainingSet, rows: Rows, features: Sequence[str]
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield (by, value, mask of rows): with or without history, quartile of amount, month, and every text column."""
    past = _has_past(data.values[rows], features)
    yield "history", "none", ~past
    yield "history", "some", past
    yield from _amounts(data.amount[rows], data.manifest.get("currencies") or ())
    yield from _values("month", months(data.q[rows]))
    for name, column in data.others.items():
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            texts = [MISSING if text is None else text for text in column.to_pylist()]
            yield from _values(name, np.array(texts, dtype=object)[rows])


def months(moments: NDArray[np.int64]) -> NDArray[np.object_]:
    """Month of each moment (ms UTC), such as `2026-11`."""
    return np.array([format_rfc3339(int(moment))[:7] for moment in moments], dtype=object)


def _has_past(values: Floats, features: Sequence[str]) -> NDArray[np.bool_]:
    """Mask of rows with history: some feature other than the request's own is neither missing nor zero."""
    remembered = [index for index, name in enumerate(features) if not name.startswith(_REQUEST)]
    past = values[:, remembered]
    return np.asarray((~np.isnan(past) & (past != 0.0)).any(axis=1))


def _amounts(
    amount: NDArray[np.int64], currencies: Collection[str]
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    edges = np.unique(np.quantile(amount, [0.0, 0.25, 0.5, 0.75, 1.0]).round()).astype(np.int64)
    quarter = np.searchsorted(edges[1:-1], amount, side="left")
    for number in np.unique(quarter):
        chosen = quarter == number
        low, high = (
            money(int(bound), currencies) for bound in (np.min(amount[chosen]), np.max(amount[chosen]))
        )
        yield "amount", f"{low} to {high}", chosen


def _values(by: str, column: NDArray[np.object_]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    distinct, counts = np.unique(column.astype(str), return_counts=True)
    common = distinct[np.argsort(-counts, kind="stable")][:MOST_VALUES]
    for value in sorted(common.tolist()):
        yield by, value, column.astype(str) == value


def comparison(bad: Labels, challenger: Floats, champion: Floats) -> dict[str, Any]:
    """Difference of AUC on the same rows with its paired 95 % interval; above 0, the challenger is better."""
    interval = auc_difference(bad, challenger, champion)
    return {
        "auc_difference": auc(bad, challenger) - auc(bad, champion),
        "low": interval.low,
        "high": interval.high,
        "n": len(bad),
        "bads": int(bad.sum()),
    }


def gains(bad: Labels, pd: Floats) -> list[dict[str, Any]]:
    """Gains table, from the riskiest decile (1): bad rate, captured bads, lift, odds of good to bad, PDs."""
    order = np.argsort(-pd, kind="stable")
    overall, total = float(bad.mean()), max(int(bad.sum()), 1)
    deciles, caught = [], 0
    for number, part in enumerate(np.array_split(order, 10), 1):
        n, bads = len(part), int(bad[part].sum())
        if not n:
            continue
        caught += bads
        deciles.append(
            {
                "decile": number,
                "n": n,
                "bads": bads,
                "bad_rate": bads / n,
                "cumulative_bads": caught / total,
                "lift": bads / n / overall if overall else None,
                "odds": (n - bads) / bads if bads else None,
                "lowest": float(np.min(pd[part])),
                "highest": float(np.max(pd[part])),
            }
        )
    return deciles
