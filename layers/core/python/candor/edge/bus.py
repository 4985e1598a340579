"""EventBridge entries of a request's events and of the platform's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from candor.clock import Clock, parse_rfc3339
from candor.contracts import EVENT_RULES, PLATFORM, EventBody, encode_event, parse_event
from candor.decision import decided, parse_record
from candor.edge.delivery import deliver
from candor.errors import InvalidInput, StoreUnavailable
from candor.faults import Rule, ValidMembers, all_faults, with_faults
from candor.features.definitions import Definitions, EventCheck

SOURCE = "candor.lender"
"""The EventBridge source of the lender's services."""

MAX_EVENTS = 100
ENTRIES_PER_CALL = 10
BYTES_PER_CALL = 256_000

Entry = dict[str, str]


class _EventBatch(msgspec.Struct):
    events: list[msgspec.Raw]


def entries_of(body: bytes, definitions: Definitions, clock: Clock, bus: str) -> list[Entry]:
    """The request's bytes → entries. Raises `InvalidInput` naming the first event that is not valid, with all faults."""
    try:
        batch = msgspec.json.decode(body, type=_EventBatch)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidInput("malformed_json", 'Send {"events": [...]} as JSON in UTF-8.') from None
    if not 1 <= len(batch.events) <= MAX_EVENTS:
        raise InvalidInput("invalid_field", f"Send 1 to {MAX_EVENTS} events.", "events")
    entries, faults, now_ms = list[Entry](), list[InvalidInput](), clock.now_ms()
    for place, raw in enumerate(batch.events):
        try:
            entries.append(_entry(bytes(raw), definitions, now_ms, bus))
        except InvalidInput as first:
            faults += _located(place, _refused(bytes(raw), first, definitions, now_ms).faults)
    if faults:
        raise with_faults(faults[0], faults)
    return entries


def _entry(raw: bytes, definitions: Definitions, now_ms: int, bus: str) -> Entry:
    event = parse_event(raw)
    definitions.check_event(event, now_ms)
    return {"Source": SOURCE, "DetailType": event.type, "Detail": raw.decode(), "EventBusName": bus}


def _located(place: int, faults: Sequence[InvalidInput]) -> Iterator[InvalidInput]:
    """The faults of one event, with their paths in the request."""
    for fault in faults:
        where = f"events[{place}]" + (f".{fault.field}" if fault.field else "")
        yield InvalidInput(fault.code, fault.detail, where)


def _refused(raw: bytes, first: InvalidInput, definitions: Definitions, now_ms: int) -> InvalidInput:
    """The first fault of an event with all others, those of its declaration included."""
    latest = now_ms + definitions.max_future_skew_ms

    def declared(check: EventCheck) -> Rule:
        return lambda body, report: check(_event_of(body), latest, report)

    rules = (*EVENT_RULES, *map(declared, definitions.event_checks))
    return with_faults(first, all_faults(EventBody, raw, rules))


def _event_of(body: ValidMembers) -> Any:
    """An event with the valid members of its body alone."""
    members = {"id" if name == "event_id" else name: value for name, value in vars(body).items()}
    for name in ("occurred_at", "voided_at"):
        if isinstance(text := members.get(name), str):
            try:
                members[name] = parse_rfc3339(text)
            except ValueError:
                del members[name]
    return ValidMembers(members)


def decided_entry(record: bytes, definitions: Definitions, bus: str) -> Entry:
    """A decision record → its `checkout.decided` entry. Raises `InvalidInput` for a record of another shape."""
    try:
        event = decided(parse_record(record), definitions)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise InvalidInput("unreadable_decision", "The record is of another shape.", "r") from None
    detail = encode_event(event).decode()
    return {"Source": PLATFORM, "DetailType": event.type, "Detail": detail, "EventBusName": bus}


def put(put_events: Callable[..., Any], entries: Sequence[Entry]) -> None:
    """Publish all entries by boto3's `put_events`, with retries of those that failed.

    Raises `StoreUnavailable` if some still failed; publishing all again is safe, since ids deduplicate.
    """
    refused = publish(put_events, dict(enumerate(entries)))
    if refused:
        raise StoreUnavailable(f"the bus refused {len(refused)} events")


def publish(put_events: Callable[..., Any], entries: Mapping[int, Entry]) -> set[int]:
    """Like `put`, but returns the positions of the entries that failed."""

    def send(page: list[tuple[int, Entry]]) -> Sequence[Mapping[str, Any]]:
        results: Sequence[Mapping[str, Any]] = put_events(Entries=[entry for _, entry in page])["Entries"]
        return results

    numbered = list(entries.items())
    refused = deliver(send, numbered, _size, most=ENTRIES_PER_CALL, limit=BYTES_PER_CALL)
    return {place for place, _ in refused}


def _size(numbered: tuple[int, Entry]) -> int:
    """Size in bytes, as EventBridge counts it."""
    return sum(len(numbered[1][name].encode()) for name in ("Source", "DetailType", "Detail"))
