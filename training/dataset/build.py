"""A labelled training set: which checkouts, what was known of them, and a manifest that says what it was made of."""

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
from training.dataset.labels import Labelled, Month, deciding_types, label_of, labelled_checkouts, monthly

FORMAT: Final = 1
DATASET: Final = "dataset.parquet"
MANIFEST: Final = "manifest.json"
SERIES: Final = "series.parquet"
"""How far behind each loan was, month by month."""


class NothingToLearn(Exception):
    """No checkout has a known end before the moment asked for."""


@dataclass(frozen=True)
class Asked:
    """What the data set is of: what was known before `as_of` (ms UTC), with this label."""

    as_of: int
    run: str = "manual"
    labels: str = FINAL_DUE


class Engine(Protocol):
    """Where the archive is read and the features are computed."""

    name: str

    def reading(self) -> Reading:
        """What was read, and what the contract refused."""
        ...

    def count(self) -> int:
        """Events that were known before the moment asked for, copies included."""
        ...

    def of_types(self, types: Iterable[str]) -> list[Event]:
        """Whole events of these types in order of arrival."""
        ...

    def point_in_time(self, questions: Sequence[PointInTimeQuery]) -> FeatureTable:
        """Features of questions by what was known at their moments."""
        ...


class Embedded:
    """All in this process."""

    name = "local"

    def __init__(self, definitions: Definitions, source: Objects | Path, *, as_of: int) -> None:
        self._definitions, self._reading = definitions, Reading()
        accepted = accepted_events(read_envelopes(source), definitions, self._reading)
        # What became known later stays: of an event's copies the engine must see the first.
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
    """`local` or `spark`."""
    if name == "local":
        return Embedded(definitions, source, as_of=as_of)
    from history.asof.spark import SparkArchive, session

    return SparkArchive(session("candor dataset"), definitions, source, before=as_of)


def limited(definitions: Definitions, views: Sequence[str]) -> Definitions:
    """Only these views, in declared order; what is computed on demand may need any of them, and is left out then.

    Raises DefinitionError for a view that is not declared.
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
    asked: Asked,
    *,
    decisions: Folder | Bucket | None = None,
) -> dict[str, Any]:
    """Write the data set, its manifest and the monthly series into `out`; returns the manifest.

    One row a checkout, oldest first: `row_id`, `q`, `known_at` (ms), `bad` (0 or 1), `amount`, `finance_charge` (minor
    units), then every feature as float64 with NaN for missing. With `decisions` only those that were decided on these
    declarations, as they were served. Raises NothingToLearn, ArchiveDamaged, DefinitionError.
    """
    label = label_of(definitions)
    deciding = engine.of_types(deciding_types(label))
    reading = engine.reading()
    print(
        f"archive: {reading.envelopes} events, {reading.refused.total()} refused, {engine.count()} known before as-of"
    )
    rows, unreadable = labelled_checkouts(definitions, deciding, asked.as_of, asked.labels)
    served = _served(definitions, decisions) if decisions is not None else None
    if served is not None:
        rows = [
            _as_decided(row, served[row.question.row_id]) for row in rows if row.question.row_id in served
        ]
        rows.sort(key=lambda row: (row.question.q, row.question.row_id))
    if not rows:
        raise NothingToLearn(_nothing(asked, served is not None))
    table = engine.point_in_time([row.question for row in rows])
    difference = None
    if served is not None:
        table, difference = _replaced(table, [served[row.question.row_id] for row in rows])
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(_columns(rows, table), out / DATASET)
    months = list(monthly(definitions, deciding, asked.as_of)) if label.instalments else []
    pq.write_table(_series(months), out / SERIES)
    manifest = {
        "format": FORMAT,
        "run": asked.run,
        "as_of": format_rfc3339(asked.as_of),
        "label": asked.labels,
        "engine": engine.name,
        "rows": len(rows),
        "bads": sum(row.bad for row in rows),
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
    """Names what was read and asked: equal for equal archives, declarations and questions, whoever computed it."""
    told = {
        name: manifest[name] for name in ("as_of", "label", "definition_hash", "events", "refused", "sha256")
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _nothing(asked: Asked, as_served: bool) -> str:  # noqa: FBT001 - two wordings of one message
    moment = format_rfc3339(asked.as_of)
    if as_served:
        return f"no decision on these declarations has a known end before {moment}: wait, or leave --as-served away"
    return f"no checkout has a known end before {moment}: load the lender's history first"


def _served(definitions: Definitions, decisions: Folder | Bucket) -> dict[str, Decision]:
    """The first decision of each checkout that was made on these declarations."""
    found: dict[str, Decision] = {}
    for decision in read_decisions(decisions):
        if decision.definition_hash == definitions.hash:
            found.setdefault(decision.request.checkout_id, decision)
    return found


def _as_decided(row: Labelled, decision: Decision) -> Labelled:
    """The row at the decision's own moment, for the application that was decided."""
    question = PointInTimeQuery(row.question.row_id, decision.q, application_of(decision))
    return Labelled(question, row.bad, row.known_at)


def _replaced(table: FeatureTable, decisions: Sequence[Decision]) -> tuple[FeatureTable, dict[str, Any]]:
    """Served values in place of those as of the same moments, and in how many rows which features differ."""
    served = np.array([decision.vector.values for decision in decisions])
    differs = (served != table.values) & ~(np.isnan(served) & np.isnan(table.values))
    by_feature = {
        name: int(count) for name, count in zip(table.names, differs.sum(axis=0), strict=True) if count
    }
    report = {"rows_that_differ": int(differs.any(axis=1).sum()), "features_that_differ": by_feature}
    return FeatureTable(table.row_ids, table.names, served), report


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _series(months: Sequence[Month]) -> pa.Table:
    schema = {"row_id": pa.string(), "loan_id": pa.string()}
    schema |= dict.fromkeys(("month", "at", "days_past_due"), pa.int64())
    return pa.table(
        {name: pa.array([getattr(one, name) for one in months], kind) for name, kind in schema.items()}
    )


def _columns(rows: Sequence[Labelled], table: FeatureTable) -> pa.Table:
    checkouts = [row.question.application.checkout for row in rows]
    columns: dict[str, Any] = {
        "row_id": pa.array(table.row_ids, pa.string()),
        "q": pa.array([row.question.q for row in rows], pa.int64()),
        "known_at": pa.array([row.known_at for row in rows], pa.int64()),
        "bad": pa.array([int(row.bad) for row in rows], pa.int8()),
        "amount": pa.array([checkout.total for checkout in checkouts], pa.int64()),
        "finance_charge": pa.array([checkout.offer.finance_charge for checkout in checkouts], pa.int64()),
    }
    for place, name in enumerate(table.names):
        columns[name] = pa.array(np.ascontiguousarray(table.values[:, place]), pa.float64())
    return pa.table(columns)
