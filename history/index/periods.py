"""Periods of the index: hours that are merged into days, and days into four weeks.

A period counts in hours since 1970. Its index object is named by the period and by a fingerprint of its sources, so a
listing alone shows what is up to date, and an object never changes under a reader.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from candor.clock import HOUR, MINUTE
from history.archive.events import ArchiveDamaged
from history.index.kinds import Kind

FORMAT: Final = 1
"""Part of every fingerprint: raising it rebuilds the whole index."""

LENGTHS: Final = (28 * 24, 24, 1)
"""Hours of a period, coarsest first; each begins at a multiple of its length."""

LARGEST: Final = 128 << 20
"""Largest total of archive bytes behind one index object; beyond it, finer periods are kept."""

SETTLED: Final = 15 * MINUTE
"""Delay (ms) after an hour's end before it is indexed: Firehose names an object by when its buffer was opened."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RAW: Final = re.compile(r"(?:^|/)(\d{4})/(\d{2})/(\d{2})/(\d{2})/")
_NAME: Final = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})\.(\d{3})h\.([0-9a-f]{16})")


class Stamp(NamedTuple):
    """An object in a listing; `tag` changes when its bytes do."""

    name: str
    tag: str
    size: int
    modified: float = 0.0


class Period(NamedTuple):
    """From hour `start` on, `hours` long."""

    start: int
    hours: int

    @property
    def end(self) -> int:
        return self.start + self.hours


class IndexedPeriod(NamedTuple):
    """An existing index object."""

    period: Period
    fingerprint: str
    name: str
    size: int
    modified: float = 0.0


def hour_of(name: str) -> int:
    """Return the hour of arrival in an object's key. Raises ArchiveDamaged."""
    match = _RAW.search(name)
    if match is None:
        raise ArchiveDamaged(f"{name}: its key contains no hour of arrival")
    return _hours(*match.groups())


def hour_prefix(kind: Kind, hour: int) -> str:
    """Prefix of the objects of one hour; prefixes sort by hour."""
    return f"{kind.prefix}{_moment(hour):%Y/%m/%d/%H}/"


def index_name(kind: Kind, period: Period, fingerprint: str) -> str:
    """Key of an index object."""
    return f"{kind.index_prefix}{_moment(period.start):%Y%m%dT%H}.{period.hours:03}h.{fingerprint}"


def fingerprint_of(sources: Iterable[Stamp]) -> str:
    """Fingerprint of an index object's sources."""
    names = [FORMAT, sorted((source.name, source.tag) for source in sources)]
    return hashlib.sha256(msgspec.json.encode(names)).hexdigest()[:16]


def standing(kind: Kind, listed: Iterable[Stamp]) -> list[IndexedPeriod]:
    """Return the index objects of a listing, by period."""
    objects = []
    for stamp in listed:
        named = _NAME.fullmatch(stamp.name.removeprefix(kind.index_prefix))
        if named is not None:
            *start, hours, fingerprint = named.groups()
            period = Period(_hours(*start), int(hours))
            objects.append(IndexedPeriod(period, fingerprint, stamp.name, stamp.size, stamp.modified))
    return sorted(objects)


def chosen(objects: Iterable[IndexedPeriod]) -> list[IndexedPeriod]:
    """Return the objects that a reader uses: per hour the coarsest, per period the latest."""
    taken: list[IndexedPeriod] = []
    reached = -1
    for candidate in sorted(objects, key=lambda it: (it.period.start, -it.period.hours, -it.modified)):
        if candidate.period.start >= reached:
            taken.append(candidate)
            reached = candidate.period.end
    return taken


def covered(objects: Sequence[IndexedPeriod]) -> int:
    """Return the hour up to which the archive is indexed; hours without an object were empty."""
    return max((standing_object.period.end for standing_object in objects), default=0)


def complete_hours(now_ms: int) -> int:
    """Return the first hour that is not complete yet."""
    return (now_ms - SETTLED) // HOUR


def coarse_start(hour: int) -> int:
    """Return the start of the coarsest period that contains an hour."""
    return hour - hour % LENGTHS[0]


def weeks_of(kind: Kind, names: Iterable[str]) -> frozenset[int]:
    """Return the start hours of the four-week periods in which these objects of a kind arrived.

    Raises ArchiveDamaged.
    """
    return frozenset(coarse_start(hour_of(name)) for name in names if name.startswith(kind.prefix))


def by_hour(stamps: Iterable[Stamp], before: int) -> dict[int, list[Stamp]]:
    """Group objects by hour, for hours before `before`."""
    hours: dict[int, list[Stamp]] = {}
    for stamp in stamps:
        hour = hour_of(stamp.name)
        if hour < before:
            hours.setdefault(hour, []).append(stamp)
    return hours


def layout(sizes: Mapping[int, int], before: int, largest: int = LARGEST) -> list[Period]:
    """Return the periods that should exist for hours of these sizes in bytes, all before hour `before`."""
    return sorted(_divided(sorted(sizes), sizes, before, largest, LENGTHS))


def _divided(
    hours: Sequence[int], sizes: Mapping[int, int], before: int, largest: int, lengths: Sequence[int]
) -> Iterator[Period]:
    groups: dict[int, list[int]] = {}
    for hour in hours:
        groups.setdefault(hour - hour % lengths[0], []).append(hour)
    for start, members in groups.items():
        period = Period(start, lengths[0])
        fits = period.end <= before and sum(sizes[hour] for hour in members) <= largest
        if fits or len(lengths) == 1:
            yield period
        else:
            yield from _divided(members, sizes, before, largest, lengths[1:])


@lru_cache(4096)
def _hours(*parts: str) -> int:
    year, month, day, hour = map(int, parts)
    return int((datetime(year, month, day, hour, tzinfo=UTC) - _EPOCH) / timedelta(hours=1))


def _moment(hour: int) -> datetime:
    return _EPOCH + timedelta(hours=hour)
