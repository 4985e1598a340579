"""Where a population comes from: events in time order, and checkouts to decide among them.

A source knows nothing of the system that decides. Its events are JSON as they travel, its checkouts are bodies of
`POST /v1/decisions`; both are a pure function of what the source was built from.
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
    """The data of a source are missing or malformed; the text says which and what to do."""


@dataclass(frozen=True)
class SourceCheckout:
    """A checkout to decide at `q_ms`; `label` is 1 if its loan turned bad, 0 if good, None if nobody knows."""

    id: str
    q_ms: int
    body: dict[str, Any]
    label: int | None
    merchant: str


class Source(Protocol):
    """A population around the moment `as_of` (ms): before it history, from it on checkouts to decide."""

    name: str
    as_of: int

    @property
    def merchants(self) -> tuple[str, ...]:
        """Ids of the merchants whose checkouts are decided."""
        ...

    def history(self) -> Iterator[Event]:
        """Events before `as_of`, in time order."""
        ...

    def checkouts(self) -> Iterator[SourceCheckout]:
        """Checkouts from `as_of` on, in time order."""
        ...

    def timeline(self) -> Iterator[Event | SourceCheckout]:
        """Events from `as_of` to the last checkout and the checkouts, in time order; a checkout leads its moment."""
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
    """What the platform would have reported of a checkout that was decided before `as_of`; later ones it reports itself."""
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
    """Order of events: by time (ms), then by id."""
    return parse_rfc3339(event["occurred_at"]), event["event_id"]


def interleave(
    events: Iterable[Event], checkouts: Iterable[SourceCheckout]
) -> Iterator[Event | SourceCheckout]:
    """Two streams in time order → one; at the same moment the checkout comes first, as its event does not count."""
    timed_events = ((*moment(event), event) for event in events)
    timed_checkouts = ((checkout.q_ms, "", checkout) for checkout in checkouts)
    merged: Iterator[tuple[int, str, Any]] = heapq.merge(
        timed_checkouts, timed_events, key=lambda timed: timed[:2]
    )
    return (item for _, _, item in merged)


def describe(source: Source) -> str:
    """Which population a source gives, in one line: the same line only for the same events and checkouts."""
    events = [event["event_id"] for event in source.history()]
    checkouts = [checkout.id for checkout in source.checkouts()]
    ids = hashlib.sha256("\n".join(events + checkouts).encode()).hexdigest()
    return f"{source.name} ({len(events)} events, {len(checkouts)} checkouts, {ids[:8]})"
