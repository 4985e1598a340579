"""Whether the training set knows what nobody knew at the moment of decision.

Three kinds of evidence: rows whose label has an impossible time, figures too good to be true, and, where the archive is
at hand, values that change once all that became known later is taken away.
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
from training.dataset.labels import Labelled, labelled_checkouts
from training.dataset.read import TrainingSet
from training.dataset.split import Floats, Split
from training.metrics.discrimination import enough
from training.metrics.scores import auc

Finding = Mapping[str, str]

FEATURE_AUC: Final = 0.90
"""No single feature known at an application tells bads from goods so well."""
MODEL_AUC: Final = 0.92
"""Nor does a model: application scores reach 0.85, behavioural ones 0.90. Above, ask where the knowledge comes from."""
SUSPECT_AUC: Final = 0.70
"""Of an implausible model these features are named."""
JUMP: Final = 0.10
"""A single feature does not lose more AUC from the earlier part to the latest, beyond four standard errors.

What leaks into old rows is not yet there in new ones. A gain is no sign: histories grow.
"""

CUTS: Final = 8
ROWS_A_CUT: Final = 40
_NAMED: Final = 12
_LOWEST: Final = -1e300


def leakage(
    data: TrainingSet, split: Split, late_auc: float, features: Sequence[str], archive: Archive | None = None
) -> dict[str, Any]:
    """`suspected` and the findings, each of a `feature` or of `rows`; `checked` names the evidence that was looked at."""
    findings = [*impossible_labels(data), *implausible(data, split, late_auc, features)]
    if archive is not None:
        findings += archive.findings(data, features)
    checked = ["labels", "figures"] + (["archive"] if archive is not None else [])
    return {"suspected": bool(findings), "findings": findings, "checked": checked}


def impossible_labels(data: TrainingSet) -> Iterator[Finding]:
    """Labels that were known at the moment of decision already, or not yet at the moment of training."""
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
    """Figures beyond what lenders see: of the model, of one feature alone, of one feature that changes its meaning."""
    if late_auc > MODEL_AUC:
        yield {"rows": "latest part", "what": f"the model's AUC of {late_auc:.3f} is implausibly high"}
    for place, name in enumerate(features):
        column, parts = data.values[:, place], (split.early, split.late)
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
    """AUC of one feature by itself, missing as its lowest value; one half where there are too few bads or goods."""
    bad = data.bad[rows]
    return auc(bad, np.nan_to_num(column[rows], nan=_LOWEST)) if enough(bad) else 0.5


def _error(data: TrainingSet, split: Split) -> float:
    """Standard error of the difference of two AUCs near one half. Source: Hanley and McNeil 1982."""
    parts = [data.bad[part] for part in (split.early, split.late)]
    counts = [(max(int(bad.sum()), 1), max(len(bad) - int(bad.sum()), 1)) for bad in parts]
    return float(np.sqrt(sum((bads + goods + 1) / (12.0 * bads * goods) for bads, goods in counts)))


@dataclass(frozen=True)
class Archive:
    """What was known before as-of, as accepted events in order of arrival: the means to compute a row again."""

    definitions: Definitions
    events: Sequence[Event]

    @classmethod
    def before(cls, as_of: int, definitions: Definitions, events: Iterable[Event]) -> Archive:
        return cls(definitions, known_before(events, as_of))

    def findings(self, data: TrainingSet, features: Sequence[str]) -> Iterator[Finding]:
        """Labels that differ from the events', and features that differ once all that became known later is taken away."""
        known, _ = labelled_checkouts(self.definitions, self.events, data.as_of)
        by_id = {one.question.row_id: one for one in known}
        yield from _wrong_labels(data, by_id)
        changed = np.zeros(len(features), dtype=np.int64)
        asked = 0
        for cut, rows in _cuts(data):
            questions = [by_id[data.row_ids[row]].question for row in rows if data.row_ids[row] in by_id]
            kept = [row for row in rows if data.row_ids[row] in by_id]
            changed += (~_same(data.values[kept], self._as_of(cut, questions))).sum(axis=0)
            asked += len(kept)
        for place in np.argsort(-changed, kind="stable")[:_NAMED].tolist():
            if changed[place]:
                what = f"{changed[place]} of {asked} values change when events known later are taken away"
                yield {"feature": features[place], "what": what}

    def _as_of(self, cut: int, questions: Sequence[PointInTimeQuery]) -> Floats:
        # Of what is left all was known: which knowledge counts makes no difference.
        past = known_before(self.events, cut)
        return np.asarray(point_in_time(self.definitions, past, questions).values)


def _cuts(data: TrainingSet) -> Iterator[tuple[int, list[int]]]:
    """Moments spread over the data set, each with the rows just before it: what they know must be from before it."""
    order = np.argsort(data.q, kind="stable")
    for end in np.unique(
        np.linspace(min(ROWS_A_CUT, len(order)), len(order), CUTS).astype(np.int64)
    ).tolist():
        rows = order[max(0, end - ROWS_A_CUT) : end].tolist()
        yield int(data.q[rows[-1]]) + 1, rows


def _same(one: Floats, other: Floats) -> NDArray[np.bool_]:
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))


def _wrong_labels(data: TrainingSet, known: Mapping[str, Labelled]) -> Iterator[Finding]:
    found = [known.get(row_id) for row_id in data.row_ids]
    unknown = np.array([one is None for one in found])
    other = np.array(
        [
            one is not None and (one.bad, one.known_at) != (bool(bad), known_at)
            for one, bad, known_at in zip(found, data.bad.tolist(), data.known_at.tolist(), strict=True)
        ]
    )
    for what, wrong in (
        ("no label was known of them before as-of", unknown),
        ("the events tell another label", other),
    ):
        if wrong.any():
            yield {"rows": _some(data, wrong), "what": what}
