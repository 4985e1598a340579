"""The index brought up to date: made where objects came, left where nothing changed, taken away where they expired."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Final

from history.archive.objects import SUFFIX
from history.index.bucket import Archive
from history.index.build import build
from history.index.kinds import Kind
from history.index.periods import (
    LARGEST,
    LENGTHS,
    IndexedPeriod,
    Period,
    Stamp,
    by_hour,
    coarse_start,
    complete_hours,
    covered,
    fingerprint_of,
    hour_of,
    index_name,
    layout,
    raw_place,
    standing,
)

RECENT: Final = 48
"""Hours in which an object may come late; what is later, rewritten or expired is for a whole pass."""

Continue = Callable[[], bool]
"""False when there is no time left for another object."""


@dataclass
class Refreshed:
    """What became of one kind's index objects, and the lines that were written.

    `finished`: false if time ran out, and the next pass goes on. `behind`: hours that are complete and not indexed.
    """

    kind: str
    written: int = 0
    kept: int = 0
    removed: int = 0
    lines: int = 0
    finished: bool = True
    behind: int = 0


@dataclass(frozen=True)
class _Pass:
    """One pass over the archive of one kind, up to hour `before`."""

    archive: Archive
    kind: Kind
    before: int
    largest: int
    go_on: Continue
    result: Refreshed

    def run(self, stamps: Iterable[Stamp], objects: Sequence[IndexedPeriod]) -> None:
        """Bring the objects of these sources up to date; `objects` stand for nothing else."""
        left = list(objects)
        for start, group in groupby(stamps, key=lambda stamp: coarse_start(hour_of(stamp.name))):
            own = [item for item in left if coarse_start(item.period.start) == start]
            left = [item for item in left if item not in own]
            if not self._weeks(by_hour(group, self.before), own):
                self.result.finished = False
                return
        self._remove(left)

    def _weeks(self, hours: Mapping[int, Sequence[Stamp]], own: Sequence[IndexedPeriod]) -> bool:
        """Four weeks; false if time ran out."""
        names = {item.name for item in own}
        wanted: set[str] = set()
        sizes = {hour: sum(stamp.size for stamp in stamps) for hour, stamps in hours.items()}
        for period in layout(sizes, self.before, self.largest):
            sources = [stamp for hour in range(period.start, period.end) for stamp in hours.get(hour, ())]
            name = index_name(self.kind, period, fingerprint_of(sources))
            wanted.add(name)
            if name in names:
                self.result.kept += 1
            elif self.go_on():
                self._write(name, sources, [item for item in own if _overlap(item.period, period)])
            else:
                return False
        self._remove(item for item in own if item.name not in wanted)
        return True

    def _write(self, name: str, sources: Sequence[Stamp], earlier: Sequence[IndexedPeriod]) -> None:
        with tempfile.TemporaryFile() as out:
            self.result.lines += build(self.archive, self.kind, sources, earlier, out)
            out.seek(0)
            self.archive.put(name, out)
        self.result.written += 1

    def _remove(self, objects: Iterable[IndexedPeriod]) -> None:
        for item in objects:
            self.archive.remove(item.name)
            self.result.removed += 1


def refresh(
    archive: Archive,
    kind: Kind,
    now_ms: int,
    *,
    whole: bool = False,
    go_on: Continue = lambda: True,
    largest: int = LARGEST,
) -> Refreshed:
    """Bring the index of one kind up to date for all hours that are complete.

    Without `whole` it looks at the weeks of the last two days and at what was never indexed. It may be cut short anywhere and
    started again: hours are indexed in their order. Raises ArchiveDamaged, Vanished.
    """
    before = complete_hours(now_ms)
    objects = standing(kind, archive.stamps(kind.place))
    since = 0 if whole else coarse_start(max(min(before - RECENT, covered(objects)), 0))
    result = Refreshed(kind.name)
    stamps = _raw(archive, kind, since)
    recent = [item for item in objects if item.period.start >= since]
    _Pass(archive, kind, before, largest, go_on, result).run(stamps, recent)
    if not result.finished:
        result.behind = before - covered(standing(kind, archive.stamps(kind.place)))
    return result


def renew(archive: Archive, kind: Kind, weeks: Iterable[int], largest: int = LARGEST) -> Refreshed:
    """Bring the index of these four weeks (`weeks_of` what was rewritten) up to date, as far as it was indexed before.

    Raises ArchiveDamaged, Vanished.
    """
    objects = standing(kind, archive.stamps(kind.place))
    result = Refreshed(kind.name)
    for start in sorted(weeks):
        period = Period(start, LENGTHS[0])
        own = [item for item in objects if _overlap(item.period, period)]
        stamps = _within(period, _raw(archive, kind, start))
        _Pass(archive, kind, covered(objects), largest, lambda: True, result).run(stamps, own)
    return result


def _within(period: Period, stamps: Iterable[Stamp]) -> Iterator[Stamp]:
    return takewhile(lambda stamp: hour_of(stamp.name) < period.end, stamps)


def _raw(archive: Archive, kind: Kind, since: int) -> Iterator[Stamp]:
    """The archive's objects from an hour on."""
    stamps = archive.stamps(kind.prefix, after=raw_place(kind, since))
    return (stamp for stamp in stamps if stamp.name.endswith(SUFFIX))


def _overlap(first: Period, second: Period) -> bool:
    return first.start < second.end and second.start < first.end
