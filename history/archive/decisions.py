"""Archived decision records: one line per decision, delivered at least once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from candor.decision import Decision, parse_record
from history.archive.events import ArchiveDamaged, read_lines
from history.archive.objects import Objects

DECISIONS_PREFIX: Final = "decisions/"
"""Archive prefix of the decisions."""


class DecisionLine(msgspec.Struct, frozen=True):
    """One line; the record keeps its stored bytes."""

    id: str
    q: int
    record: msgspec.Raw


_LINE = msgspec.json.Decoder(DecisionLine)


def read_decisions(objects: Objects) -> Iterator[Decision]:
    """Yield each decision once, in order of arrival. Raises ArchiveDamaged."""
    seen: set[str] = set()
    for line in read_lines(objects, _LINE):
        if line.id in seen:
            continue
        seen.add(line.id)
        try:
            yield parse_record(bytes(line.record))
        except (msgspec.ValidationError, KeyError, TypeError) as error:
            raise ArchiveDamaged(f"the record of decision {line.id} has an unexpected shape") from error


def made_at(decision: Decision) -> int | None:
    """Return when the decision was made (ms, wall clock); None for a replay-clock decision whose record lacks it."""
    if decision.decided_at is None and not decision.replay_clock:
        return decision.q
    return decision.decided_at
