"""The archive: gzip'd JSON lines that Firehose wrote. Those of the bus are envelopes, read back as accepted events."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from candor.clock import parse_rfc3339
from candor.contracts import Event, parse_event
from candor.errors import InvalidInput
from candor.features.definitions import Definitions
from history.objects import Folder, Objects


class ArchiveDamaged(Exception):
    """An archive file is not what Firehose writes; the message names the file and the line."""


class Envelope(msgspec.Struct, frozen=True):
    """An EventBridge envelope. `time` is when the bus took the event; `detail` stays as the bytes that arrived."""

    time: str
    detail: msgspec.Raw


@dataclass
class Reading:
    """What one pass over the archive saw: envelopes, refused events by code."""

    envelopes: int = 0
    refused: Counter[str] = field(default_factory=Counter)


EVENTS_PREFIX: Final = "events/"
"""Where the archive keeps what the bus took."""

T = TypeVar("T")
ENVELOPE: Final = msgspec.json.Decoder(Envelope)


def read_envelopes(source: Path | Objects) -> Iterator[Envelope]:
    """Every envelope of a folder or of objects in order of arrival: by key, then by line. Raises ArchiveDamaged."""
    return read_lines(Folder(source) if isinstance(source, Path) else source, ENVELOPE)


def read_lines(objects: Objects, decoder: msgspec.json.Decoder[T]) -> Iterator[T]:
    """Every line of the objects, decoded.

    Raises ArchiveDamaged: what is computed from half an archive would look like any other.
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
    """The events that the online path accepts, duplicates included, in order of arrival."""
    return (event for _, event in arrivals(envelopes, definitions, reading))


def arrivals(
    envelopes: Iterable[Envelope],
    definitions: Definitions,
    reading: Reading | None = None,
    *,
    ever: bool = False,
) -> Iterator[tuple[int, Event]]:
    """As `accepted_events`, each with the moment (ms) when the bus took it.

    The same validation as online, at that moment. `ever`: also those that were dated too far ahead then, which a redrive
    may have applied later.
    """
    reading = reading or Reading()
    for envelope in envelopes:
        reading.envelopes += 1
        taken_at = parse_rfc3339(envelope.time)
        try:
            event = parse_event(bytes(envelope.detail))
            dated = max(event.occurred_at, event.voided_at or 0) if ever else 0
            definitions.check_event(event, max(taken_at, dated))
        except InvalidInput as refusal:
            reading.refused[refusal.code] += 1
            continue
        yield taken_at, event
