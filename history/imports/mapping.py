"""Mapping of a lender's rows to events, declared in TOML. Every value is an expression of DuckDB's SQL over a row.

docs/how-to/import-events.md explains the format with examples.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from candor.contracts import Checkout
from candor.errors import CandorError
from candor.features.definitions import Definitions
from candor.features.event_types import DECIDED, EventType

DEFAULT_ROWS: Final = "rows"
"""Name of the rows where a mapping declares none: every file."""

STARTED: Final = "checkout.started"
"""Type of the event that carries a checkout's body."""

BODY: Final = "checkout"
"""Field of that event that holds the body."""

TEXT, WHOLE, MOMENT, ANY = "text", "whole", "moment", "any"
"""Kinds of a mapped value: text, a whole number (of a moment: its ms), a moment, any JSON."""


class MappingError(CandorError):
    """The mapping is malformed or does not fit the declared events; the message names the entry."""


class Rows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of one shape.

    `files` is a pattern of file names, `select` SQL over the table `source` that gives the rows (all, if empty),
    `timezone` that of moments without an offset, `read` options of DuckDB's reader.
    """

    files: str = "*"
    select: str = ""
    timezone: str = "UTC"
    read: Mapping[str, Any] = {}


class EventBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[event]]`: each of its rows where `where` is true makes an event; where `voided_at` is set, its void as well."""

    type: str
    id: str
    occurred_at: str
    entities: Mapping[str, str]
    data: Mapping[str, str] = {}
    where: str = ""
    known_at: str = ""
    voided_at: str = ""
    rows: str = DEFAULT_ROWS


class CheckoutBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[checkout]]`: a past checkout, with its decision where `outcome` is given.

    It makes the events `checkout.started` and `checkout.decided`. `body` has the members of the request.
    """

    occurred_at: str
    merchant: str
    body: Mapping[str, Any]
    where: str = ""
    outcome: str = ""
    approved_amount: str = ""
    rows: str = DEFAULT_ROWS


class MappingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole mapping.

    `as_of` is where the demo of `make run DATA=…` begins to decide: the checkouts before it are history.
    """

    as_of: datetime | None = None
    rows: Mapping[str, Rows] = {}
    event: Sequence[EventBlock] = ()
    checkout: Sequence[CheckoutBlock] = ()


class Value(msgspec.Struct, frozen=True):
    """A mapped member: its SQL expression, the kind that it must have, and the entry that declares it."""

    sql: str
    kind: str
    entry: str


class MappedEvent(msgspec.Struct, frozen=True):
    """One kind of event that rows make. `data` is nested as in JSON; leaves are values."""

    type: str
    rows: str
    id: Value
    occurred_at: Value
    entities: Mapping[str, Value]
    data: Mapping[str, Any]
    where: Sequence[Value] = ()
    known_at: Value | None = None
    voided_at: Value | None = None


class EventMapping(msgspec.Struct, frozen=True):
    """A mapping that fits the declared events."""

    rows: Mapping[str, Rows]
    events: Sequence[MappedEvent]
    as_of: datetime | None = None


def read_mapping(text: str, definitions: Definitions) -> EventMapping:
    """Parse a mapping and hold it against the declared event types. Raises MappingError."""
    try:
        parsed = msgspec.convert(tomllib.loads(text), MappingFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise MappingError(f"the mapping is malformed: {error}") from error
    if not parsed.event and not parsed.checkout:
        raise MappingError("the mapping makes nothing: declare [[event]] or [[checkout]]")
    rows = dict(parsed.rows) or {DEFAULT_ROWS: Rows()}
    events = [_event(block, f"event {number}", definitions) for number, block in enumerate(parsed.event, 1)]
    for number, block in enumerate(parsed.checkout, 1):
        events += _checkout(block, f"checkout {number}", definitions)
    for event in events:
        if event.rows not in rows:
            raise MappingError(f'{event.id.entry}: there are no rows "{event.rows}"; {_known(rows)}')
    return EventMapping(rows, events, parsed.as_of)


def _event(block: EventBlock, entry: str, definitions: Definitions) -> MappedEvent:
    entry = f"{entry} ({block.type})"
    declared = _declared(block.type, entry, definitions)
    _only(block.entities, [entity.name for entity in declared.entities], f"{entry}: entities")
    return MappedEvent(
        type=block.type,
        rows=block.rows,
        id=Value(block.id, TEXT, f"{entry}: id"),
        occurred_at=Value(block.occurred_at, MOMENT, f"{entry}: occurred_at"),
        entities={
            name: Value(sql, TEXT, f"{entry}: entities.{name}") for name, sql in block.entities.items()
        },
        data={
            name: Value(sql, _kind(declared, name), f"{entry}: data.{name}")
            for name, sql in block.data.items()
        },
        where=_where(block.where, entry),
        known_at=Value(block.known_at, MOMENT, f"{entry}: known_at") if block.known_at else None,
        voided_at=Value(block.voided_at, MOMENT, f"{entry}: voided_at") if block.voided_at else None,
    )


def _checkout(block: CheckoutBlock, entry: str, definitions: Definitions) -> list[MappedEvent]:
    """The events of a past checkout: started, and decided where its outcome is mapped."""
    body = _body(block.body, Checkout, f"{entry}: body")
    missing = {"checkout_id", "total", "currency"} - body.keys()
    if missing:
        raise MappingError(f"{entry}: body lacks {', '.join(sorted(missing))}")
    merchant = Value(block.merchant, TEXT, f"{entry}: merchant")
    about = {
        "checkout_id": body["checkout_id"],
        "merchant": merchant,
        "total": body["total"],
        "currency": body["currency"],
        "applicant": body.get("applicant", {}).get("token"),
        BODY: body,
    }
    events = [_of_checkout(STARTED, block, body, about, entry, definitions)]
    if block.outcome:
        about |= {
            "outcome": Value(block.outcome, TEXT, f"{entry}: outcome"),
            "approved_amount": Value(
                block.approved_amount
                or f"CASE WHEN ({block.outcome}) = 'approved' THEN ({body['total'].sql}) ELSE 0 END",
                WHOLE,
                f"{entry}: approved_amount",
            ),
        }
        events.append(_of_checkout(DECIDED, block, body, about, entry, definitions))
    return events


def _of_checkout(
    name: str,
    block: CheckoutBlock,
    body: Mapping[str, Any],
    about: Mapping[str, Any],
    entry: str,
    definitions: Definitions,
) -> MappedEvent:
    declared = _declared(name, entry, definitions)
    entities = {}
    for entity in declared.entities:
        value = _at({"merchant_id": about["merchant"], "checkout": body}, entity.key)
        if value is not None:
            entities[entity.name] = value
    return MappedEvent(
        type=name,
        rows=block.rows,
        id=Value(f"CONCAT(({body['checkout_id'].sql}), ':{name}')", TEXT, f"{entry}: body.checkout_id"),
        occurred_at=Value(block.occurred_at, MOMENT, f"{entry}: occurred_at"),
        entities=entities,
        data={field: about[field] for field in declared.fields if about.get(field) is not None},
        where=_where(block.where, entry),
    )


def _at(application: Mapping[str, Any], key: str | None) -> Value | None:
    """The value at an entity's dotted path, or None."""
    member: Any = application
    for step in key.split(".") if key else ():
        member = member.get(step) if isinstance(member, dict) else None
    return member if isinstance(member, Value) else None


def _body(members: Mapping[str, Any], struct: Any, entry: str) -> dict[str, Any]:
    """Values of a request's members, nested as its struct is."""
    fields = {field.name: field for field in msgspec.inspect.type_info(struct).fields}  # type: ignore[attr-defined] # a struct's
    _only(members, list(fields), entry)
    values: dict[str, Any] = {}
    for name, sql in members.items():
        kind = _bare(fields[name].type)
        if isinstance(sql, dict) and isinstance(kind, msgspec.inspect.StructType):
            values[name] = _body(sql, kind.cls, f"{entry}.{name}")
        elif isinstance(sql, str):
            values[name] = Value(sql, _KINDS.get(type(kind), ANY), f"{entry}.{name}")
        else:
            raise MappingError(f"{entry}.{name}: expected an SQL expression in quotes")
    return values


_KINDS: Final[Mapping[type, str]] = {msgspec.inspect.StrType: TEXT, msgspec.inspect.IntType: WHOLE}


def _bare(kind: Any) -> Any:
    """The type of an optional member without null."""
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(member for member in kind.types if not isinstance(member, msgspec.inspect.NoneType))
    return kind


def _declared(name: str, entry: str, definitions: Definitions) -> EventType:
    if name not in definitions.event_types:
        raise MappingError(f'{entry}: no event type is named "{name}"; {_known(definitions.event_types)}')
    declared: EventType = definitions.event_types[name]
    return declared


def _kind(declared: EventType, name: str) -> str:
    """Kind of a data field; undeclared fields are carried as they are."""
    field = declared.fields.get(name)
    if field is None:
        return ANY
    return {"integer": WHOLE, "text": TEXT}.get(field.kind, ANY)


def _where(sql: str, entry: str) -> list[Value]:
    return [Value(sql, ANY, f"{entry}: where")] if sql else []


def _only(given: Mapping[str, Any], known: Sequence[str], entry: str) -> None:
    for name in given:
        if name not in known:
            raise MappingError(f'{entry}: there is no "{name}"; {_known(known)}')


def _known(names: Any) -> str:
    return f"there are {', '.join(sorted(names))}"
