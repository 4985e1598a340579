"""The archive: gzip'd JSON lines of the EventBridge envelopes that Firehose wrote, read back as accepted events."""

from __future__ import annotations

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from candor.clock import parse_rfc3339
from candor.contracts import Event, parse_event
from candor.errors import InvalidInput
from candor.features.views import Definitions


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


_ENVELOPE = msgspec.json.Decoder(Envelope)


def read_envelopes(root: Path) -> Iterator[Envelope]:
    """Every envelope below `root` in order of arrival: by key, then by line.

    Raises ArchiveDamaged: a dataset from half an archive would look like any other.
    """
    for path in sorted(root.rglob("*.gz")):
        number = 0
        try:
            with gzip.open(path, "rb") as stream:
                for number, line in enumerate(io.BufferedReader(stream), 1):  # noqa: B007 - named in the error
                    if line.strip():
                        yield _ENVELOPE.decode(line)
        except (msgspec.DecodeError, OSError, EOFError, zlib.error) as error:
            raise ArchiveDamaged(f"{path.relative_to(root)}, line {number}: {error}") from error


def accepted_events(
    envelopes: Iterable[Envelope], definitions: Definitions, reading: Reading | None = None
) -> Iterator[Event]:
    """The events that the online path accepts, duplicates included, in order of arrival.

    The same validation as online; its clock is the envelope's time, when the bus took the event.
    """
    reading = reading or Reading()
    for envelope in envelopes:
        reading.envelopes += 1
        try:
            event = parse_event(bytes(envelope.detail))
            definitions.check_event(event, parse_rfc3339(envelope.time))
        except InvalidInput as refusal:
            reading.refused[refusal.code] += 1
            continue
        yield event
