"""Report of an erasure: counts and actions by location."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from history.archive.versioned import Findings
from history.erasure.lines import EventLines


@dataclass(frozen=True)
class Place:
    """Items, lines or rows in one location, and the action taken.

    `old_versions` are deleted versions of objects; `until` (ms) is when the last of the kept ones expires, None if
    nothing expires it.
    """

    name: str
    found: int
    rewritten: int = 0
    deleted: int = 0
    kept: int = 0
    old_versions: int = 0
    until: int | None = None
    why: str = ""


@dataclass(frozen=True)
class KeptDecisions:
    """A person's decisions in the archive and in the table, and when (ms) the last of them expires."""

    archived: int
    archived_until: int | None
    stored: int
    stored_until: int | None


@dataclass(frozen=True)
class ErasureReport:
    """An erasure of data from before `erased_at` (ms); `name` is the tombstone's and contains no token.

    `found_now`: false if there was nothing left to do. `again_after` (ms): until then copies in transit may still
    reach the archive.
    """

    name: str
    erased_at: int
    again_after: int
    found_now: bool
    places: Sequence[dict[str, Any]]


def report_rows(
    *,
    items: int,
    surplus: int,
    events: Findings,
    lines: EventLines,
    undelivered: Findings,
    commits: Findings,
    rows: Findings,
    decisions: KeptDecisions,
) -> list[dict[str, Any]]:
    """Rows of the report, as in its JSON."""
    places = [
        Place(
            "feature items", items, rewritten=items, why="tombstones stay until nothing can be redelivered"
        ),
        Place("old items, markers", surplus, deleted=surplus, why="of versions no longer declared"),
        _place("archived events", events, _of_events(lines)),
        _place("undelivered records", undelivered, ""),
        _place("log of commits", commits, ""),
        _place("training rows", rows, "bundles hold none"),
        _kept("stored decisions", decisions.stored, decisions.stored_until),
        _kept("archived decisions", decisions.archived, decisions.archived_until),
    ]
    return [asdict(place) for place in places]


def _place(name: str, findings: Findings, why: str) -> Place:
    total = findings.removed + findings.rewritten
    return Place(
        name, total, findings.rewritten, findings.removed, old_versions=findings.old_versions, why=why
    )


def _kept(name: str, count: int, until: int | None) -> Place:
    return Place(name, count, kept=count, until=until, why="kept by law")


def _of_events(lines: EventLines) -> str:
    notes = ["rewritten ones count for other entities, without the person"]
    if lines.in_ids:
        notes.append(f"{len(lines.in_ids)} of their ids contain the token and cannot change")
    if lines.later:
        notes.append(f"{len(lines.later)} later events are left: --again erases them too")
    return "; ".join(notes)
