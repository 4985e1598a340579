"""Leakage checks: does the training set hold information that was not available at the moment of decision?

Three kinds of evidence: rows whose label has an impossible time, implausibly good figures, and, where the archive is
given, values that change once everything that became known later is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from candor.contracts import Event
from candor.features.definitions import Definitions
from history.asof.events import known_before
from history.asof.point_in_time import PointInTimeQuery, point_in_time
from training.dataset.labels import LabelledCheckout, labelled_checkouts
from training.dataset.read import TrainingSet
from training.dataset.split import Floats, Split
from training.metrics.discrimination import enough
from training.metrics.scores import auc

Finding = Mapping[str, str]

FEATURE_AUC: Final = 0.90
"""Implausibly high for a single feature that is known at application time."""
MODEL_AUC: Final = 0.92
"""Implausibly high for a model: application scores reach 0.85, behavioural scores 0.90."""
SUSPECT_AUC: Final = 0.70
"""Features of an implausible model that are stronger than this are named."""
JUMP: Final = 0.10
"""Implausible loss of a single feature's AUC from the earlier part to the latest, if beyond four standard errors.

Leaked information is in old rows and not yet in new ones. A gain is no evidence: histories grow.
"""

CUTS: Final = 8
ROWS_A_CUT: Final = 40
_NAMED: Final = 12
_LOWEST: Final = -1e300


def leakage(
    data: TrainingSet,
    split: Split,
    late_auc: float,
    features: Sequence[str],
    archive: EventHistory | None = None,
) -> dict[str, Any]:
    """Check for leakage: `suspected`, the findings about a `feature` or about `rows`, and the evidence `checked`."""
    findings = [*impossible_labels(data), *implausible(data, split, late_auc, features)]
    if archive is not None:
        findings += archive.findings(data, features)
    checked = ["labels", "figures"] + (["archive"] if archive is not None else [])
    return {"suspected": bool(findings), "findings": findings, "checked": checked}


def impossible_labels(data: TrainingSet) -> Iterator[Finding]:
    """Yield labels that were already known at the moment of decision, or not yet at the moment of training."""
    for what, wrong in (
        ("the label was known at or before the moment of decision", data.known_at <= data.q),
        ("the label became known only at or after as-of", data.known_at >= data.as_of),
        ("the decision was taken at or after as-of", data.q >= data.as_of),
    ):
        if wrong.any():
            yield {"rows": _some(data, wrong), "what": what}


def _some(data: TrainingSet, wrong: NDArray[np.bool_]) -> str:
    return f"{int(wrong.sum())} rows, the first is {data.row_ids[int(np.argmax(wrong))]}"


def implausible(
    data: TrainingSet, split: Split, late_auc: float, features: Sequence[str]
) -> Iterator[Finding]:
    """Yield implausible figures: of the model, of a single feature, and of a feature whose AUC collapses."""
    if late_auc > MODEL_AUC:
        yield {"rows": "latest part", "what": f"the model's AUC of {late_auc:.3f} is implausibly high"}
    for index, name in enumerate(features):
        column, parts = data.values[:, index], (split.early, split.late)
        strength = max(abs(_alone(data, column, part) - 0.5) for part in parts) + 0.5
        if strength > FEATURE_AUC:
            yield {"feature": name, "what": f"alone it has an AUC of {strength:.3f}"}
        elif late_auc > MODEL_AUC and strength > SUSPECT_AUC:
            yield {"feature": name, "what": f"alone it has an AUC of {strength:.3f}, in an implausible model"}
        early, late = (_alone(data, column, part[~np.isnan(column[part])]) for part in parts)
        lost = (early - late) if early >= 0.5 else (late - early)
        if lost > max(JUMP, 4.0 * _error(data, split)):
            what = f"its AUC is {early:.3f} in the earlier part and {late:.3f} in the latest"
            yield {"feature": name, "what": what}


def _alone(data: TrainingSet, column: Floats, rows: NDArray[np.int64]) -> float:
    """AUC of a single feature, with missing as its lowest value; one half where there are too few bads or goods."""
    bad = data.bad[rows]
    return auc(bad, np.nan_to_num(column[rows], nan=_LOWEST)) if enough(bad) else 0.5


def _error(data: TrainingSet, split: Split) -> float:
    """Standard error of the difference of two AUCs near one half. Source: Hanley and McNeil 1982."""
    parts = [data.bad[part] for part in (split.early, split.late)]
    counts = [(max(int(bad.sum()), 1), max(len(bad) - int(bad.sum()), 1)) for bad in parts]
    return float(np.sqrt(sum((bads + goods + 1) / (12.0 * bads * goods) for bads, goods in counts)))


@dataclass(frozen=True)
class EventHistory:
    """Accepted events that were known before as-of, in order of arrival, from which rows can be recomputed."""

    definitions: Definitions
    events: Sequence[Event]

    @classmethod
    def before(cls, as_of: int, definitions: Definitions, events: Iterable[Event]) -> EventHistory:
        return cls(definitions, known_before(events, as_of))

    def findings(self, data: TrainingSet, features: Sequence[str]) -> Iterator[Finding]:
        """Yield labels that differ from the events', and features that depend on events known only later."""
        known, _ = labelled_checkouts(self.definitions, self.events, data.as_of)
        by_id = {labelled.question.row_id: labelled for labelled in known}
        yield from _wrong_labels(data, by_id)
        changed = np.zeros(len(features), dtype=np.int64)
        compared = 0
        for cut, rows in _cuts(data):
            questions = [by_id[data.row_ids[row]].question for row in rows if data.row_ids[row] in by_id]
            kept = [row for row in rows if data.row_ids[row] in by_id]
            changed += (~_same(data.values[kept], self._as_of(cut, questions))).sum(axis=0)
            compared += len(kept)
        for index in np.argsort(-changed, kind="stable")[:_NAMED].tolist():
            if changed[index]:
                what = f"{changed[index]} of {compared} values change when events known later are removed"
                yield {"feature": features[index], "what": what}

    def _as_of(self, cut: int, questions: Sequence[PointInTimeQuery]) -> Floats:
        # Everything that is left was known, so the knowledge mode makes no difference.
        past = known_before(self.events, cut)
        return np.asarray(point_in_time(self.definitions, past, questions).values)


def _cuts(data: TrainingSet) -> Iterator[tuple[int, list[int]]]:
    """Moments spread over the data set, each with the rows just before it, which may use only earlier knowledge."""
    order = np.argsort(data.q, kind="stable")
    for end in np.unique(
        np.linspace(min(ROWS_A_CUT, len(order)), len(order), CUTS).astype(np.int64)
    ).tolist():
        rows = order[max(0, end - ROWS_A_CUT) : end].tolist()
        yield int(data.q[rows[-1]]) + 1, rows


def _same(left: Floats, right: Floats) -> NDArray[np.bool_]:
    return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))


def _wrong_labels(data: TrainingSet, known: Mapping[str, LabelledCheckout]) -> Iterator[Finding]:
    labels = [known.get(row_id) for row_id in data.row_ids]
    unknown = np.array([label is None for label in labels])
    other = np.array(
        [
            label is not None and (label.bad, label.known_at) != (bool(bad), known_at)
            for label, bad, known_at in zip(labels, data.bad.tolist(), data.known_at.tolist(), strict=True)
        ]
    )
    for what, wrong in (
        ("no label was known of them before as-of", unknown),
        ("the events give another label", other),
    ):
        if wrong.any():
            yield {"rows": _some(data, wrong), "what": what}
