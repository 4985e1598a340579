"""Building the labelled training set: its checkouts, their point-in-time features, and a manifest of its inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from candor.clock import format_rfc3339
from candor.contracts import Event
from candor.decision import Decision
from candor.errors import DefinitionError
from candor.features.definitions import Definitions
from candor.features.labels import FINAL_DUE
from history.archive.decisions import read_decisions
from history.archive.events import Reading, accepted_events, read_envelopes
from history.archive.objects import Bucket, Folder, Objects
from history.asof.events import PointInTimeQuery
from history.asof.point_in_time import FeatureTable, point_in_time
from history.replay.as_served import application_of
from training.dataset.labels import (
    LabelledCheckout,
    MonthStatus,
    deciding_types,
    label_of,
    labelled_checkouts,
    monthly_status,
    observed_until,
)

FORMAT: Final = 1
DATASET: Final = "dataset.parquet"
MANIFEST: Final = "manifest.json"
SERIES: Final = "series.parquet"
"""Days past due of each loan, month by month."""


class NothingToLearn(Exception):
    """No checkout has a label that was known before `as_of`."""


@dataclass(frozen=True)
class DatasetSpec:
    """Specification of a data set: the knowledge cutoff `as_of` (ms UTC), the run's name and the label's."""

    as_of: int
    run: str = "manual"
    labels: str = FINAL_DUE


class Engine(Protocol):
    """Engine that reads the archive and computes the features."""

    name: str

    def reading(self) -> Reading:
        """Counts of the events read and of those that the contract refused."""
        ...

    def count(self) -> int:
        """Number of events that were known before `as_of`, copies included."""
        ...

    def of_types(self, types: Iterable[str]) -> list[Event]:
        """Events of these types, in order of arrival."""
        ...

    def point_in_time(self, questions: Sequence[PointInTimeQuery]) -> FeatureTable:
        """Features of the queries, by what was known at their moments."""
        ...


class Embedded:
    """Engine in this process; holds all events in memory."""

    name = "local"

    def __init__(self, definitions: Definitions, source: Objects | Path, *, as_of: int) -> None:
        self._definitions, self._reading = definitions, Reading()
        accepted = accepted_events(read_envelopes(source), definitions, self._reading)
        # Events that became known later stay: the engine must see the first of an event's copies.
        self._events = [event for event in accepted if event.occurred_at < as_of]
        self._known = sum(event.known_from < as_of for event in self._events)

    def reading(self) -> Reading:
        return self._reading

    def count(self) -> int:
        return self._known

    def of_types(self, types: Iterable[str]) -> list[Event]:
        wanted = frozenset(types)
        return [event for event in self._events if event.type in wanted]

    def point_in_time(self, questions: Sequence[PointInTimeQuery]) -> FeatureTable:
        return point_in_time(self._definitions, self._events, questions)


def engine_named(name: str, definitions: Definitions, source: Folder | Bucket, *, as_of: int) -> Engine:
    """The engine by its name: `local` or `spark`."""
    if name == "local":
        return Embedded(definitions, source, as_of=as_of)
    from history.asof.spark import SparkArchive, session

    return SparkArchive(session("candor dataset"), definitions, source, before=as_of)


def select_views(definitions: Definitions, views: Sequence[str]) -> Definitions:
    """Definitions with only these views, in declared order; all of them if `views` is empty.

    Features computed on demand may need any view, so a selection leaves them out. Raises DefinitionError for a view
    that is not declared.
    """
    if not views:
        return definitions
    names = [view.name for view in definitions.views]
    for name in views:
        if name not in names:
            raise DefinitionError(f'no view is named "{name}"; there are {", ".join(names)}')
    return Definitions(
        entities=definitions.entities.values(),
        events=definitions.event_types.values(),
        views=[view for view in definitions.views if view.name in views],
        label=definitions.label,
        max_future_skew_ms=definitions.max_future_skew_ms,
    )


def write(
    definitions: Definitions,
    engine: Engine,
    out: Path,
    spec: DatasetSpec,
    *,
    decisions: Folder | Bucket | None = None,
) -> dict[str, Any]:
    """Write the data set, its manifest and the monthly series into `out`; returns the manifest.

    One row per checkout, oldest first: `row_id`, `q`, `known_at` (ms), `bad` (0 or 1), `amount`, `finance_charge`
    (minor units), then every feature as float64 with NaN for missing. With `decisions`, only the checkouts decided on
    these definitions, with the features that were served. Raises NothingToLearn, ArchiveDamaged, DefinitionError.
    """
    label = label_of(definitions)
    deciding = engine.of_types(deciding_types(label))
    reading = engine.reading()
    print(
        f"archive: {reading.envelopes} events, {reading.refused.total()} refused, {engine.count()} known before as-of"
    )
    rows, unreadable = labelled_checkouts(definitions, deciding, spec.as_of, spec.labels)
    until = observed_until(label, deciding, spec.as_of)
    print(
        f"labels: events of loans end at {format_rfc3339(until)}; a loan that was to end later has no label"
    )
    served = _served(definitions, decisions) if decisions is not None else None
    if served is not None:
        rows = [
            _as_decided(row, served[row.question.row_id]) for row in rows if row.question.row_id in served
        ]
        rows.sort(key=lambda row: (row.question.q, row.question.row_id))
    if not rows:
        raise NothingToLearn(_nothing(min(spec.as_of, until), as_served=served is not None))
    table = engine.point_in_time([row.question for row in rows])
    difference = None
    if served is not None:
        table, difference = _replaced(table, [served[row.question.row_id] for row in rows])
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(_columns(rows, table), out / DATASET)
    months = list(monthly_status(definitions, deciding, spec.as_of)) if label.instalments else []
    pq.write_table(_series(months), out / SERIES)
    manifest = {
        "format": FORMAT,
        "run": spec.run,
        "as_of": format_rfc3339(spec.as_of),
        "observed_until": format_rfc3339(until),
        "label": spec.labels,
        "engine": engine.name,
        "rows": len(rows),
        "bads": sum(row.bad for row in rows),
        "currencies": sorted({row.question.application.checkout.currency for row in rows}),
        "sha256": _sha256(out / DATASET),
        "series": {"rows": len(months), "sha256": _sha256(out / SERIES)},
        "definition_hash": definitions.hash,
        "views": {view.name: view.version for view in definitions.views},
        "window": [format_rfc3339(rows[0].question.q), format_rfc3339(rows[-1].question.q)],
        "events": engine.count(),
        "refused": dict(sorted(reading.refused.items())),
        "unreadable_checkouts": unreadable,
        "as_served": difference,
    }
    manifest["snapshot"] = _snapshot(manifest)
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest


def _snapshot(manifest: dict[str, Any]) -> str:
    """Hash of what was read and requested: equal for equal archives, definitions and specifications, on any engine."""
    identity = {
        name: manifest[name] for name in ("as_of", "label", "definition_hash", "events", "refused", "sha256")
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _nothing(until: int, *, as_served: bool) -> str:
    moment = format_rfc3339(until)
    if as_served:
        return f"no decision on these declarations has a known end before {moment}: wait, or leave --as-served away"
    return f"no checkout has a known end before {moment}: load the lender's history first"


def _served(definitions: Definitions, decisions: Folder | Bucket) -> dict[str, Decision]:
    """The first decision of each checkout that was made on these definitions."""
    by_checkout: dict[str, Decision] = {}
    for decision in read_decisions(decisions):
        if decision.definition_hash == definitions.hash:
            by_checkout.setdefault(decision.request.checkout_id, decision)
    return by_checkout


def _as_decided(row: LabelledCheckout, decision: Decision) -> LabelledCheckout:
    """The row at the decision's own moment, for the application that was decided."""
    question = PointInTimeQuery(row.question.row_id, decision.q, application_of(decision))
    return LabelledCheckout(question, row.bad, row.known_at)


def _replaced(table: FeatureTable, decisions: Sequence[Decision]) -> tuple[FeatureTable, dict[str, Any]]:
    """The table with served values in place of point-in-time ones, and the numbers of rows that differ, by feature."""
    served = np.array([decision.vector.values for decision in decisions])
    differs = (served != table.values) & ~(np.isnan(served) & np.isnan(table.values))
    by_feature = {
        name: int(count) for name, count in zip(table.names, differs.sum(axis=0), strict=True) if count
    }
    report = {"rows_that_differ": int(differs.any(axis=1).sum()), "features_that_differ": by_feature}
    return FeatureTable(table.row_ids, table.names, served), report


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _series(months: Sequence[MonthStatus]) -> pa.Table:
    schema = {"row_id": pa.string(), "loan_id": pa.string()}
    schema |= dict.fromkeys(("month", "at", "days_past_due"), pa.int64())
    return pa.table(
        {name: pa.array([getattr(month, name) for month in months], kind) for name, kind in schema.items()}
    )


def _columns(rows: Sequence[LabelledCheckout], table: FeatureTable) -> pa.Table:
    checkouts = [row.question.application.checkout for row in rows]
    columns: dict[str, Any] = {
        "row_id": pa.array(table.row_ids, pa.string()),
        "q": pa.array([row.question.q for row in rows], pa.int64()),
        "known_at": pa.array([row.known_at for row in rows], pa.int64()),
        "bad": pa.array([int(row.bad) for row in rows], pa.int8()),
        "amount": pa.array([checkout.total for checkout in checkouts], pa.int64()),
        "finance_charge": pa.array([checkout.offer.finance_charge for checkout in checkouts], pa.int64()),
    }
    for index, name in enumerate(table.names):
        columns[name] = pa.array(np.ascontiguousarray(table.values[:, index]), pa.float64())
    return pa.table(columns)
