"""Refresh of the index: objects are built for new sources, kept if unchanged, and removed when their sources expire."""

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
    hour_prefix,
    index_name,
    layout,
    standing,
)

RECENT: Final = 48
"""Hours within which late objects are expected; later, rewritten or expired ones need a whole pass."""

Continue = Callable[[], bool]
"""False if there is no time left for another object."""


@dataclass
class Refreshed:
    """Results for one kind: index objects and lines written.

    `finished`: false if time ran out; the next pass continues. `behind`: complete hours that are not indexed.
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
        """Update the index objects of these sources; `objects` are those that cover nothing else."""
        left = list(objects)
        for start, group in groupby(stamps, key=lambda stamp: coarse_start(hour_of(stamp.name))):
            own = [item for item in left if coarse_start(item.period.start) == start]
            left = [item for item in left if item not in own]
            if not self._weeks(by_hour(group, self.before), own):
                self.result.finished = False
                return
        self._remove(left)

    def _weeks(self, hours: Mapping[int, Sequence[Stamp]], own: Sequence[IndexedPeriod]) -> bool:
        """Update one four-week period; false if time ran out."""
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
    """Update the index of one kind for all complete hours.

    Without `whole` it covers the periods of the last two days and what was never indexed. It may be interrupted and
    restarted anywhere: hours are indexed in order. Raises ArchiveDamaged, Vanished.
    """
    before = complete_hours(now_ms)
    objects = standing(kind, archive.stamps(kind.index_prefix))
    since = 0 if whole else coarse_start(max(min(before - RECENT, covered(objects)), 0))
    result = Refreshed(kind.name)
    stamps = _raw(archive, kind, since)
    recent = [item for item in objects if item.period.start >= since]
    _Pass(archive, kind, before, largest, go_on, result).run(stamps, recent)
    if not result.finished:
        result.behind = before - covered(standing(kind, archive.stamps(kind.index_prefix)))
    return result


def renew(archive: Archive, kind: Kind, weeks: Iterable[int], largest: int = LARGEST) -> Refreshed:
    """Update the index of these four-week periods (`weeks_of` rewritten objects), up to where it was indexed before.

    Raises ArchiveDamaged, Vanished.
    """
    objects = standing(kind, archive.stamps(kind.index_prefix))
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
    """Yield the archive's objects from an hour on."""
    stamps = archive.stamps(kind.prefix, after=hour_prefix(kind, since))
    return (stamp for stamp in stamps if stamp.name.endswith(SUFFIX))


def _overlap(first: Period, second: Period) -> bool:
    return first.start < second.end and second.start < first.end
