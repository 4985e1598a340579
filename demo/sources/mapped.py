"""Data of a folder as a source, through a mapping: the same as `candor events import` takes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from candor.clock import SECOND, SystemClock, format_rfc3339
from candor.contracts import Event
from candor.errors import InvalidInput
from candor.features.event_types import DECIDED
from demo.sources.base import Event as SourceEvent
from demo.sources.base import SourceCheckout, SourceError, interleave, moment
from history.imports.accept import checked_event
from history.imports.mapping import STARTED, MappingError, read_mapping
from history.imports.sql import READERS, EventQuery, connected
from lender import DEFINITIONS
from training.dataset.labels import labelled_checkouts

BATCH = 20_000
MERCHANT = "merchant"


class MappedSource:
    """Events of a folder's files; checkouts from the mapping's `as_of` on are to be decided.

    Raises `SourceError`: the mapping does not fit the files, names no `as_of`, or makes an event that is refused.
    """

    def __init__(self, name: str, folder: Path, mapping: Path) -> None:
        self.name = name
        events, self.as_of = _events(folder, mapping)
        self._events = [travelling for travelling, _ in events]
        self._checkouts = _checkouts(events, self.as_of)
        if not self._checkouts:
            raise SourceError(
                f"{folder} has no checkout from {format_rfc3339(self.as_of)} on: nothing is decided"
            )
        self.merchants = tuple(sorted({checkout.merchant for checkout in self._checkouts}))

    def history(self) -> Iterator[SourceEvent]:
        return (event for event in self._events if moment(event)[0] < self.as_of)

    def checkouts(self) -> Iterator[SourceCheckout]:
        return iter(self._checkouts)

    def timeline(self) -> Iterator[SourceEvent | SourceCheckout]:
        end = self._checkouts[-1].q_ms
        later = (event for event in self._events if self.as_of <= moment(event)[0] <= end)
        # The platform itself reports what it decides.
        return interleave((event for event in later if event["type"] != DECIDED), self.checkouts())


MappedEvents = Sequence[tuple[SourceEvent, Event]]
"""Events as they travel, and parsed."""


def _events(folder: Path, mapping: Path) -> tuple[MappedEvents, int]:
    """The events in time order, and the moment (ms UTC) from which on checkouts are decided."""
    files = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(tuple(READERS)))
    try:
        parsed = read_mapping(mapping.read_text(encoding="utf-8"), DEFINITIONS)
        if parsed.as_of is None or parsed.as_of.tzinfo is None:
            raise SourceError(
                f"{mapping} names no moment with an offset, such as as_of = 2026-07-01T00:00:00Z"
            )
        with tempfile.TemporaryDirectory() as spill, connected(files, Path(spill)) as engine:
            query = EventQuery(engine, parsed, files)
            events = [_checked(row.detail) for batch in query.batches(BATCH) for row in batch]
    except (OSError, MappingError) as error:
        raise SourceError(f"{folder} by {mapping.name}: {error}") from error
    events.sort(key=lambda pair: (pair[1].moment, pair[1].id))
    return events, round(parsed.as_of.timestamp() * SECOND)


def _checked(detail: bytes) -> tuple[SourceEvent, Event]:
    travelling: SourceEvent = json.loads(detail)
    try:
        return travelling, checked_event(detail, DEFINITIONS, SystemClock().now_ms())
    except InvalidInput as fault:
        raise SourceError(f"event {travelling.get('event_id')} is refused: {fault}") from fault


def _checkouts(events: MappedEvents, as_of: int) -> list[SourceCheckout]:
    labels = _labels([event for _, event in events])
    return [
        SourceCheckout(
            str(event.data["checkout_id"]),
            event.occurred_at,
            dict(event.data["checkout"]),
            labels.get(event.data["checkout_id"]),
            event.entities[MERCHANT],
        )
        for _, event in events
        if event.type == STARTED and event.occurred_at >= as_of
    ]


def _labels(events: Sequence[Event]) -> dict[str, int]:
    """Outcome of each checkout whose loan has ended by the last event, by checkout id."""
    until = max(event.known_from for event in events) + 1
    labelled, _ = labelled_checkouts(DEFINITIONS, events, until)
    return {checkout.question.row_id: int(checkout.bad) for checkout in labelled}
