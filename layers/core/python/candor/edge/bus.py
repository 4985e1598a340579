"""The event bus: a request's events → EventBridge entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from candor.clock import Clock
from candor.contracts import parse_event
from candor.errors import InvalidInput, StoreUnavailable
from candor.features.views import Definitions

SOURCE = "candor.lender"
MAX_EVENTS = 100
ENTRIES_PER_CALL = 10
_ATTEMPTS = 3

Entry = dict[str, str]


class _Batch(msgspec.Struct):
    events: list[msgspec.Raw]


def entries_of(body: bytes, definitions: Definitions, clock: Clock, bus: str) -> list[Entry]:
    """The request's bytes → entries, if every event may be applied. Raises `InvalidInput` naming the first that may not."""
    try:
        batch = msgspec.json.decode(body, type=_Batch)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidInput("malformed_json", 'Send {"events": [...]} as JSON in UTF-8.') from None
    if not 1 <= len(batch.events) <= MAX_EVENTS:
        raise InvalidInput("invalid_field", f"Send 1 to {MAX_EVENTS} events.", "events")
    return [_entry(place, bytes(raw), definitions, clock, bus) for place, raw in enumerate(batch.events)]


def _entry(place: int, raw: bytes, definitions: Definitions, clock: Clock, bus: str) -> Entry:
    try:
        event = parse_event(raw)
        definitions.check_event(event, clock.now_ms())
    except InvalidInput as error:
        where = f"events[{place}]" + (f".{error.field}" if error.field else "")
        raise InvalidInput(error.code, error.detail, where) from None
    return {"Source": SOURCE, "DetailType": event.type, "Detail": raw.decode(), "EventBusName": bus}


def put(put_events: Callable[..., Any], entries: Sequence[Entry]) -> None:
    """Publish all entries by boto3's `put_events`, again those that the bus failed.

    Raises `StoreUnavailable` if some could not be published; sending all again is safe, ids deduplicate.
    """
    for page in _pages(entries):
        waiting = page
        for _ in range(_ATTEMPTS):
            answers = put_events(Entries=waiting)["Entries"]
            waiting = [entry for entry, answer in zip(waiting, answers, strict=True) if "ErrorCode" in answer]
            if not waiting:
                break
        if waiting:
            raise StoreUnavailable(f"the bus refused {len(waiting)} events")


def _pages(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    rest = iter(entries)
    while page := list(islice(rest, ENTRIES_PER_CALL)):
        yield page
