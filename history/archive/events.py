"""Archived events: gzip'd JSON lines of EventBridge envelopes, read back as accepted events.

A live event is known from the time the bus accepted it, by the bus's clock. Platform decisions are known from their
own moment, and so is loaded history unless it states another.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from candor.clock import parse_rfc3339
from candor.contracts import HISTORY, PLATFORM, Event, parse_event
from candor.errors import InvalidInput
from candor.features.definitions import Definitions
from candor.features.event_types import MAX_SKEW
from history.archive.objects import Folder, Objects


class ArchiveDamaged(Exception):
    """An archive file is not as Firehose writes it; the message names the file and the line."""


class Envelope(msgspec.Struct, frozen=True):
    """An EventBridge envelope; `detail` keeps the bytes that arrived.

    `time` is set by the producer, else by the bus; `ingestion_time` is the bus's own stamp. Lines archived before the
    stamp was recorded have none.
    """

    time: str
    detail: msgspec.Raw
    source: str = ""
    ingestion_time: str | None = None

    @property
    def taken_at(self) -> int:
        """Time at which the bus accepted the event (ms UTC, whole seconds), as far as the line records it."""
        return parse_rfc3339(self.time if self.ingestion_time is None else self.ingestion_time)


class _Line(msgspec.Struct, frozen=True):
    """An archive line: an envelope and the bus's stamp."""

    event: Envelope | None = None
    ingestion_time: str | None = None


class EnvelopeDecoder:
    """Decoder of archive lines, with or without the bus's stamp."""

    _line = msgspec.json.Decoder(_Line)
    _bare = msgspec.json.Decoder(Envelope)

    def decode(self, line: bytes, /) -> Envelope:
        """Decode a line into an envelope. Raises msgspec.DecodeError."""
        archived = self._line.decode(line)
        if archived.event is None:
            return self._bare.decode(line)
        return msgspec.structs.replace(archived.event, ingestion_time=archived.ingestion_time)


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """An accepted event, and the time (ms) at which the bus accepted it."""

    taken_at: int
    event: Event

    @property
    def in_time(self) -> bool:
        """False for an event dated too far ahead on arrival: only a redrive can have applied it."""
        return max(self.event.occurred_at, self.event.voided_at or 0) <= self.taken_at + MAX_SKEW


@dataclass
class Reading:
    """Counts of one pass over the archive: envelopes, and refused events by code."""

    envelopes: int = 0
    refused: Counter[str] = field(default_factory=Counter)


EVENTS_PREFIX: Final = "events/"
"""Archive prefix of the bus's events."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
ENVELOPE: Final = EnvelopeDecoder()


class Decoder(Protocol[T_co]):
    """Decoder of one line. Raises msgspec.DecodeError."""

    def decode(self, line: bytes, /) -> T_co: ...


def read_envelopes(source: Path | Objects) -> Iterator[Envelope]:
    """Yield every envelope of a folder or of objects in order of arrival (by key, then line). Raises ArchiveDamaged."""
    return read_lines(Folder(source) if isinstance(source, Path) else source, ENVELOPE)


def read_lines(objects: Objects, decoder: Decoder[T]) -> Iterator[T]:
    """Yield every line of the objects, decoded.

    Raises ArchiveDamaged, because a result of half an archive would look like any other.
    """
    for name, data in objects:
        number = 0
        try:
            with gzip.open(BytesIO(data)) as stream:
                for number, line in enumerate(stream, 1):  # noqa: B007 - named in the error
                    if line.strip():
                        yield decoder.decode(line)
        except (msgspec.DecodeError, OSError, EOFError, zlib.error) as error:
            raise ArchiveDamaged(f"{name}, line {number}: {error}") from error


def accepted_events(
    envelopes: Iterable[Envelope], definitions: Definitions, reading: Reading | None = None
) -> Iterator[Event]:
    """Yield the events that the online path accepts, duplicates included, in order of arrival."""
    return (arrival.event for arrival in arrivals(envelopes, definitions, reading))


def arrivals(
    envelopes: Iterable[Envelope],
    definitions: Definitions,
    reading: Reading | None = None,
    *,
    ever: bool = False,
) -> Iterator[Arrival]:
    """Yield the events that the online path accepts, duplicates included, with the time the bus accepted each.

    Validation is that of the online path at that time. `ever`: include events then dated too far ahead, which a
    redrive may have applied later.
    """
    reading = reading or Reading()
    for envelope in envelopes:
        reading.envelopes += 1
        taken_at = envelope.taken_at
        try:
            event = read_event(envelope)
            dated = max(event.occurred_at, event.voided_at or 0) if ever else 0
            definitions.check_event(event, max(taken_at, dated))
        except InvalidInput as refusal:
            reading.refused[refusal.code] += 1
            continue
        yield Arrival(taken_at, event)


def read_event(envelope: Envelope) -> Event:
    """Return an envelope's event; `known_at` is set only if it is after the event's moment. Raises InvalidInput."""
    event = parse_event(bytes(envelope.detail), envelope.source)
    known_at = _known_at(envelope, event)
    if known_at is not None and known_at <= event.moment:
        known_at = None
    return event if known_at == event.known_at else msgspec.structs.replace(event, known_at=known_at)


def _known_at(envelope: Envelope, event: Event) -> int | None:
    """Return when an event became known.

    For loaded history as stated, bounded by the bus's time; for a live event the bus's time.
    """
    if envelope.source == PLATFORM:
        return None
    if envelope.source != HISTORY:
        return envelope.taken_at
    return None if event.known_at is None else min(event.known_at, envelope.taken_at)
