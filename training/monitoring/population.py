"""The two populations that are compared: a run's training snapshot, and the served decisions."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from candor.clock import parse_rfc3339
from candor.decision import Decision
from candor.errors import CandorError
from candor.features.definitions import Definitions
from candor.features.state import ViewState
from candor.model.bundle import Bundle
from training.monitoring.figures import Floats
from training.monitoring.loans import LoanEnd

OTHER_FEATURES: Final = "its features are not those of the model"
APPLICANT: Final = "checkout.applicant.token"


class SnapshotUnusable(CandorError):
    """The data set is not the one that the model was trained on; the message gives the remedy."""


@dataclass(frozen=True)
class TrainingSnapshot:
    """Training data of a model: feature values (row by feature), amounts, and the model's own PD of each row.

    `as_of` (ms UTC) is the data set's knowledge cutoff: later decisions are new to the model.
    """

    run: str
    manifest: Mapping[str, Any]
    values: Floats
    amount: NDArray[np.int64]
    pd: Floats

    @property
    def as_of(self) -> int:
        return parse_rfc3339(self.manifest["as_of"])


@dataclass(frozen=True)
class Served:
    """Decisions in time order, one row each. `own` masks those that the model itself scored.

    `loans` are the ends of their loans, None for a decision without one. `states` counts each view's states.
    """

    q: NDArray[np.int64]
    values: Floats
    amount: NDArray[np.int64]
    pd: Floats
    own: NDArray[np.bool_]
    outcome: Sequence[str]
    merchant: Sequence[str]
    degraded: NDArray[np.bool_]
    loans: Sequence[LoanEnd | None]
    states: Mapping[str, Counter[str]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    currencies: frozenset[str] = frozenset()

    @property
    def approved(self) -> NDArray[np.bool_]:
        return np.array([outcome == "approved" for outcome in self.outcome], dtype=bool)


def snapshot_of(run: str, dataset: bytes, manifest: bytes, bundle: Bundle) -> TrainingSnapshot:
    """A run's data set, scored by the bundle. Raises SnapshotUnusable if the bundle was not trained on it."""
    parsed = json.loads(manifest)
    if hashlib.sha256(dataset).hexdigest() != parsed["sha256"]:
        raise SnapshotUnusable(
            f"run {run}: dataset.parquet is not the file that its manifest names; restore it, or name another --run"
        )
    if parsed["definition_hash"] != bundle.definition_hash:
        raise SnapshotUnusable(
            f"run {run}: its data set was built with other definitions than its bundle; name another --run"
        )
    table = pq.read_table(io.BytesIO(dataset))
    missing = {"amount", *bundle.features} - set(table.column_names)
    if missing:
        raise SnapshotUnusable(
            f"run {run}: its data set lacks {', '.join(sorted(missing))}; name another --run"
        )
    values = np.column_stack([table[name].to_numpy() for name in bundle.features])
    return TrainingSnapshot(run, parsed, values, table["amount"].to_numpy(), _scored(bundle, values))


class _DecisionRow(NamedTuple):
    """A decision's numbers without its record, so that millions fit in memory."""

    q: int
    id: str
    checkout_id: str
    amount: int
    currency: str
    merchant: str
    outcome: str
    degraded: bool
    score: float | None
    values: Floats


def served(
    decisions: Iterable[Decision], bundle: Bundle, definitions: Definitions, ends: Mapping[str, LoanEnd]
) -> Served:
    """Decisions with the bundle's features; those of another bundle are scored by this one, from the logged vector.

    A loan counts for one decision: the latest that approved its checkout, else the latest.
    """
    rows: list[_DecisionRow] = []
    left_out: Counter[str] = Counter()
    states: dict[str, Counter[str]] = {view.name: Counter() for view in definitions.views}
    for decision in decisions:
        if decision.definition_hash != bundle.definition_hash:
            left_out[OTHER_FEATURES] += 1
            continue
        rows.append(_decision_row(decision, bundle.sha))
        for name, counts in states.items():
            counts[decision.vector.states[name]] += 1
    rows.sort(key=lambda row: (row.q, row.id))
    values = np.array([row.values for row in rows], dtype=float).reshape(len(rows), len(bundle.features))
    own = np.array([row.score is not None for row in rows], dtype=bool)
    pd = np.array([np.nan if row.score is None else row.score for row in rows], dtype=float)
    pd[~own] = _scored(bundle, values[~own])
    return Served(
        q=np.array([row.q for row in rows], dtype=np.int64),
        values=values,
        amount=np.array([row.amount for row in rows], dtype=np.int64),
        pd=pd,
        own=own,
        outcome=[row.outcome for row in rows],
        merchant=[row.merchant for row in rows],
        degraded=np.array([row.degraded for row in rows], dtype=bool),
        loans=_loans(rows, ends),
        states=states,
        left_out=left_out,
        currencies=frozenset(row.currency for row in rows),
    )


def _decision_row(decision: Decision, sha: str) -> _DecisionRow:
    """The decision's row, with its score only if this bundle gave it."""
    return _DecisionRow(
        q=decision.q,
        id=decision.id,
        checkout_id=decision.request.checkout_id,
        amount=decision.request.total,
        currency=sys.intern(decision.request.currency),
        merchant=sys.intern(decision.merchant_id),
        outcome=sys.intern(decision.outcome),
        degraded=decision.degraded,
        score=decision.score if decision.bundle == sha else None,
        values=np.array(decision.vector.values, dtype=float),
    )


def _loans(decisions: Sequence[_DecisionRow], ends: Mapping[str, LoanEnd]) -> list[LoanEnd | None]:
    of_checkout: dict[str, int] = {}
    for index, decision in enumerate(decisions):
        known = of_checkout.get(decision.checkout_id)
        if known is None or decision.outcome == "approved" or decisions[known].outcome != "approved":
            of_checkout[decision.checkout_id] = index
    loans: list[LoanEnd | None] = [None] * len(decisions)
    for checkout_id, index in of_checkout.items():
        loans[index] = ends.get(checkout_id)
    return loans


def _scored(bundle: Bundle, values: Floats) -> Floats:
    with bundle.load() as engine:
        return np.array([bundle.score(engine.raw(row)) for row in values.tolist()], dtype=float)


def customers(definitions: Definitions, features: Sequence[str], values: Floats) -> list[str] | None:
    """Class of each row's applicant: `new`, `returning` after an earlier loan, or `unknown` if the view was unreadable.

    None where no view of the applicant aggregates loans. A new customer has that view's values of no events, which are
    in a data set as well as in a decision.
    """
    for view in definitions.views:
        takes_loans = definitions.label is not None and definitions.label.origin in view.event_types
        if takes_loans and view.entity.key == APPLICANT:
            view_values = values[:, [features.index(feature.name) for feature in view.features]]
            empty = np.array(ViewState.new(view).values(0), dtype=float)
            unread = (np.isnan(view_values) & ~np.isnan(empty)).any(axis=1)
            is_new = ((view_values == empty) | (np.isnan(view_values) & np.isnan(empty))).all(axis=1)
            return [str(label) for label in np.select([unread, is_new], ["unknown", "new"], "returning")]
    return None


def amount_bands(snapshot: TrainingSnapshot, bands: int = 4) -> list[int]:
    """Upper bounds of equal-count bands of the snapshot's amounts (minor units), without the last band's."""
    edges = np.quantile(snapshot.amount, np.arange(1, bands) / bands, method="inverted_cdf")
    return [int(edge) for edge in np.unique(edges)]


def in_bands(
    amount: NDArray[np.int64], edges: Sequence[int], text: Callable[[int], str] = str
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each band's label, its bounds as `text` writes them, and the mask of its rows."""
    low = None
    for high in [*edges, None]:
        above = np.ones(len(amount), dtype=bool) if low is None else amount > low
        inside = above if high is None else above & (amount <= high)
        yield _band(low, high, text), inside
        low = high


def _band(low: int | None, high: int | None, text: Callable[[int], str]) -> str:
    if low is None:
        return "any" if high is None else f"≤ {text(high)}"
    return f"> {text(low)}" if high is None else f"{text(low + 1)} to {text(high)}"
