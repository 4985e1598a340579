"""Protocol of a source: events in time order, and checkouts to decide among them.

A source is independent of the system that decides. Its events are JSON as they travel, its checkouts are bodies of
`POST /v1/decisions`; both are a pure function of the source's arguments.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from candor.clock import format_rfc3339, parse_rfc3339
from local.errors import LocalError

Event = dict[str, Any]
"""An event as it travels: event_id, type, occurred_at (RFC 3339), schema_version, entities, data."""


class SourceError(LocalError):
    """The data of a source are missing or malformed; the message says which, and the remedy."""


@dataclass(frozen=True)
class SourceCheckout:
    """A checkout to decide at `q_ms` (ms UTC); `label` is 1 if its loan turned bad, 0 if good, None if unknown."""

    id: str
    q_ms: int
    body: dict[str, Any]
    label: int | None
    merchant: str


class Source(Protocol):
    """A population: its history is before `as_of` (ms UTC), its checkouts to decide from then on."""

    name: str
    as_of: int

    @property
    def merchants(self) -> tuple[str, ...]:
        """Ids of the merchants that post the checkouts."""
        ...

    def history(self) -> Iterator[Event]:
        """Events before `as_of`, in time order."""
        ...

    def checkouts(self) -> Iterator[SourceCheckout]:
        """Checkouts from `as_of` on, in time order."""
        ...

    def timeline(self) -> Iterator[Event | SourceCheckout]:
        """Events from `as_of` to the last checkout, and checkouts, in time order; at a tie the checkout is first."""
        ...


def make_event(
    event_id: str, kind: str, at: int, entities: Mapping[str, str], data: Mapping[str, Any]
) -> Event:
    """The event as it travels; `at` in ms UTC."""
    return {
        "event_id": event_id,
        "type": kind,
        "occurred_at": format_rfc3339(at),
        "schema_version": 1,
        "entities": dict(entities),
        "data": dict(data),
    }


def decided_earlier(
    event_id: str, at: int, entities: Mapping[str, str], body: Mapping[str, Any], outcome: str
) -> Event:
    """The platform's own event for a checkout decided before `as_of`; later ones the platform reports itself."""
    data = {
        "checkout_id": body["checkout_id"],
        "merchant": entities["merchant"],
        "total": body["total"],
        "approved_amount": body["total"] if outcome == "approved" else 0,
        "currency": body["currency"],
        "outcome": outcome,
    }
    return make_event(event_id, "checkout.decided", at, entities, data)


def moment(event: Event) -> tuple[int, str]:
    """Sort key of events: time (ms), then id."""
    return parse_rfc3339(event["occurred_at"]), event["event_id"]


def interleave(
    events: Iterable[Event], checkouts: Iterable[SourceCheckout]
) -> Iterator[Event | SourceCheckout]:
    """Merge in time order; at a tie the checkout is first, because its own event must not count."""
    timed_events = ((*moment(event), event) for event in events)
    timed_checkouts = ((checkout.q_ms, "", checkout) for checkout in checkouts)
    merged: Iterator[tuple[int, str, Any]] = heapq.merge(
        timed_checkouts, timed_events, key=lambda timed: timed[:2]
    )
    return (item for _, _, item in merged)


def describe(source: Source) -> str:
    """Identify a source's population in one line, which is the same only for the same events and checkouts."""
    events = [event["event_id"] for event in source.history()]
    checkouts = [checkout.id for checkout in source.checkouts()]
    ids = hashlib.sha256("\n".join([*events, *checkouts, format_rfc3339(source.as_of)]).encode()).hexdigest()
    return f"{source.name} ({len(events)} events, {len(checkouts)} checkouts, {ids[:8]})"
