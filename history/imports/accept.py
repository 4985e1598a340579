"""Validation of mapped events: exactly that of the queue's consumer, with what an import leaves out besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from candor.contracts import HISTORY, Event, parse_checkout, parse_event
from candor.errors import InvalidInput
from candor.features.definitions import Definitions
from candor.store.erasures import Tombstones
from history.imports.mapping import BODY, STARTED

MOST_LISTED: Final = 1_000
"""Refused events that a report lists; all are counted."""

ERASED: Final = "erased"
"""Code of an event that names an erased person."""


class Refusal(msgspec.Struct, frozen=True):
    """A refused event; `field` is the path of the faulty member. It holds no value but the event's id and type."""

    event_id: str | None
    type: str | None
    code: str
    field: str | None
    detail: str


@dataclass
class RowsRead:
    """Result of reading the rows: events by type, refused ones by code, and those that the archive holds already."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    archived: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    first: int | None = None
    last: int | None = None
    """Moments (ms UTC) of the first and the last accepted event."""

    @property
    def read(self) -> int:
        return self.accepted.total() + self.refused.total() + self.archived


class MappedDetail(msgspec.Struct, frozen=True):
    """A mapped event as it travels, and whether the archive holds its id."""

    detail: bytes
    archived: bool = False


def accepted_details(
    details: Iterable[MappedDetail],
    definitions: Definitions,
    tombstones: Tombstones,
    now_ms: int,
    rows_read: RowsRead,
) -> Iterator[tuple[bytes, Event]]:
    """Yield the events that may be imported, in order; the others are counted in `rows_read`."""
    for mapped in details:
        if mapped.archived:
            rows_read.archived += 1
            continue
        try:
            event = checked_event(mapped.detail, definitions, now_ms)
            _check_not_erased(event, tombstones)
        except InvalidInput as fault:
            _refuse(rows_read, mapped.detail, fault)
            continue
        rows_read.accepted[event.type] += 1
        rows_read.first = event.moment if rows_read.first is None else rows_read.first
        rows_read.last = event.moment
        yield mapped.detail, event


def checked_event(detail: bytes, definitions: Definitions, now_ms: int) -> Event:
    """A mapped event. Raises InvalidInput where the queue's consumer would, and for a checkout that could not be decided."""
    event = parse_event(detail, HISTORY)
    definitions.check_event(event, now_ms)
    if event.type == STARTED and event.voided_at is None:
        try:
            parse_checkout(msgspec.json.encode(event.data.get(BODY)))
        except InvalidInput as fault:
            path = f"data.{BODY}.{fault.field}" if fault.field else f"data.{BODY}"
            raise InvalidInput(fault.code, fault.detail, path) from fault
    return event


def _check_not_erased(event: Event, tombstones: Tombstones) -> None:
    if tombstones.touch(event.entities, event.occurred_at):
        raise InvalidInput(ERASED, "The event names a person who was erased after it.", "entities")


class _Named(msgspec.Struct):
    event_id: Any = None
    type: Any = None


_NAMED: Final = msgspec.json.Decoder(_Named)


def _refuse(rows_read: RowsRead, detail: bytes, fault: InvalidInput) -> None:
    rows_read.refused[fault.code] += 1
    if len(rows_read.refusals) < MOST_LISTED:
        named = _NAMED.decode(detail)
        rows_read.refusals.append(
            Refusal(_text(named.event_id), _text(named.type), fault.code, fault.field, fault.detail)
        )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
