"""Events and queries as columns: the input of the engines."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

from candor.contracts import Application, Event
from candor.errors import InvalidInput
from candor.features.definitions import Definitions
from candor.features.event_types import EventType
from candor.features.views import FeatureView

_BATCH: Final = 20_000
_EXPECTED: Final = {"integer": "an integer of at most 64 bits", "text": "text"}

Knowledge = Literal["at_moment", "ever"]
"""Knowledge at a past moment: as known at that moment, or as known at any time since."""


@dataclass(frozen=True)
class PointInTimeQuery:
    """One row to answer: an application, and the moment `q` (ms UTC) as of which its features are computed."""

    row_id: str
    q: int
    application: Application


def event_table(definitions: Definitions, events: Iterable[Event]) -> pa.Table:
    """Events as columns in order of arrival: id, type, moments, one column per entity, declared field and kind.

    `at` is `occurred_at`; `voided_at` and `known_at` are null where the event has none. Only declared fields of the
    event's own type become columns. The events are those that `Definitions.check_event` accepts. Raises
    `InvalidInput`, naming the event's index and the field, where a column would have to alter a value.
    """
    used = {name: plain_fields(declared) for name, declared in definitions.event_types.items()}
    schema = event_schema(definitions)
    batches: list[pa.RecordBatch] = []
    rows: list[dict[str, Any]] = []
    for index, event in enumerate(events):
        if event.type not in used:
            raise InvalidInput("unknown_event_type", "No such event type is declared.", f"[{index}].type")
        if not _fits(event, used[event.type]):
            raise _misfit(index, event, used[event.type], definitions.entities)
        row: dict[str, Any] = {
            "id": event.id,
            "type": event.type,
            "at": event.occurred_at,
            "voided_at": event.voided_at,
            "known_at": event.known_at,
        }
        row.update((entity_column(name), key) for name, key in event.entities.items())
        row.update((field_column(field, kind), event.data.get(field)) for field, kind in used[event.type])
        rows.append(row)
        if len(rows) == _BATCH:
            batches.append(pa.RecordBatch.from_pylist(rows, schema=schema))
            rows.clear()
    batches.append(pa.RecordBatch.from_pylist(rows, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


def _fits(event: Event, fields: Sequence[tuple[str, str]]) -> bool:
    """False if a value is not of its column's kind: pyarrow would truncate 1.5 to 1."""
    if type(event.id) is not str or type(event.occurred_at) is not int:
        return False
    if not {type(event.voided_at), type(event.known_at)} <= {int, type(None)}:
        return False
    for key in event.entities.values():
        if type(key) is not str:
            return False
    data = event.data
    for field, kind in fields:
        value = data.get(field)
        if value is not None and not _is_of(kind, value):
            return False
    return True


def _is_of(kind: str, value: object) -> bool:
    if kind == "text":
        return type(value) is str
    return type(value) is int and -(2**63) <= value < 2**63


def _misfit(
    index: int, event: Event, fields: Sequence[tuple[str, str]], entities: Container[str]
) -> InvalidInput:
    """Error for what `_fits` rejected, by the event's index and the field's name; never the value."""
    values: list[tuple[str, str, object]] = [
        ("event_id", "text", event.id),
        ("occurred_at", "integer", event.occurred_at),
        ("voided_at", "integer", event.voided_at if event.voided_at is not None else 0),
        ("known_at", "integer", event.known_at if event.known_at is not None else 0),
        *(
            (f"entities.{name}" if name in entities else "entities", "text", key)
            for name, key in event.entities.items()
        ),
        *(
            (f"data.{field}", kind, event.data[field])
            for field, kind in fields
            if event.data.get(field) is not None
        ),
    ]
    name, kind = next((name, kind) for name, kind, value in values if not _is_of(kind, value))
    return InvalidInput("invalid_field", f"Expected {_EXPECTED[kind]}.", f"[{index}].{name}")


def known_before(events: Iterable[Event], moment: int) -> list[Event]:
    """Return the events, in order of arrival, known before a moment (ms UTC).

    The first copy to arrive decides when an event was known; if it was not, no later copy counts either.
    """
    known_from: dict[str, int] = {}
    return [event for event in events if known_from.setdefault(event.dedup_id, event.known_from) < moment]


def event_schema(definitions: Definitions) -> pa.Schema:
    """Columns of `event_table`."""
    fields = sorted(
        {pair for declared in definitions.event_types.values() for pair in plain_fields(declared)}
    )
    return pa.schema(
        [("id", pa.string()), ("type", pa.string())]
        + [(moment, pa.int64()) for moment in ("at", "voided_at", "known_at")]
        + [(entity_column(name), pa.string()) for name in definitions.entities]
        + [(field_column(*pair), pa.int64() if pair[1] == "integer" else pa.string()) for pair in fields]
    )


def query_table(definitions: Definitions, queries: Sequence[PointInTimeQuery]) -> pa.Table:
    """Queries as columns: the moment `q` and the token of each entity, null where the application names none.

    Raises `DefinitionError` for a view of an entity without a key: query such a view with a table of tokens.
    """
    definitions.require_keys()
    columns: dict[str, Any] = {"q": pa.array([query.q for query in queries], pa.int64())}
    for name, entity in definitions.entities.items():
        keys = [_key_of(definitions, name, entity, query) for query in queries]
        columns[entity_column(name)] = pa.array(keys, pa.string())
    return pa.table(columns)


def _key_of(definitions: Definitions, name: str, entity: Any, query: PointInTimeQuery) -> str | None:
    """Only entities of a view are looked up: an application may lack the others."""
    needed = any(view.entity.name == name for view in definitions.views)
    return entity.key_of(query.application) if needed else None


def kinds(view: FeatureView, field: str | None) -> list[str]:
    """Return the kinds, integer or text, in which the view's events declare a field."""
    declared = (event.fields.get(str(field)) for event in view.events)
    return sorted({kind.kind for kind in declared if kind is not None and kind.kind != "json"})


def plain_fields(declared: EventType) -> list[tuple[str, str]]:
    """Return name and kind of the fields that can be aggregated or filtered on."""
    return [(field, kind.kind) for field, kind in declared.fields.items() if kind.kind != "json"]


def entity_column(name: str) -> str:
    """Column name of an entity's tokens, in events and queries."""
    return f"entity_{name}"


def field_column(field: str | None, kind: str) -> str:
    """Column name of a declared field in one of its kinds."""
    return f"{kind}_{field}"
