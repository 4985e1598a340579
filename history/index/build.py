"""Construction of an index object from earlier ones and from archive objects that none of them covers.

A late object, an object rewritten by an erasure, an expired one and the roll-up of hours into a day are thus one
operation: each source's lines are taken from an index object that has them under the same entity tag, else read.
Sorted runs of lines are merged; what exceeds memory is spilled.
"""

from __future__ import annotations

import gzip
import heapq
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from operator import itemgetter
from typing import IO, Final

import msgspec

from history.archive.events import ArchiveDamaged
from history.index.blocks import Line, read_lines
from history.index.blocks import write as write_object
from history.index.bucket import Archive
from history.index.index_object import opened
from history.index.kinds import Kind
from history.index.periods import IndexedPeriod, Stamp

RUN: Final = 128 << 20
"""Bytes of archive lines sorted in memory at a time; the owners of a line share its bytes."""

_BY_OWNER: Final = itemgetter(0)
"""Lines arrive in the order of their sources, and the sort is stable."""

AHEAD: Final = 1 << 20
"""Bytes of an index object fetched at a time."""


def build(
    archive: Archive, kind: Kind, sources: Sequence[Stamp], earlier: Sequence[IndexedPeriod], out: IO[bytes]
) -> int:
    """Write the index object of these sources; `earlier`: objects that may already hold some of them.

    Returns the number of its lines. Raises ArchiveDamaged, Vanished.
    """
    ordered = sorted(sources)
    source_numbers = {source.name: number for number, source in enumerate(ordered)}
    open_sources = {(source.name, source.tag) for source in ordered}
    with ExitStack() as files:
        runs = [_kept(archive, standing, source_numbers, open_sources) for standing in earlier]
        left = [source.name for source in ordered if (source.name, source.tag) in open_sources]
        runs += _sorted_runs(_new_lines(archive, kind, left, source_numbers), files)
        return write_object(out, heapq.merge(*runs), ordered)


def _kept(
    archive: Archive,
    standing: IndexedPeriod,
    source_numbers: Mapping[str, int],
    open_sources: set[tuple[str, str]],
) -> Iterator[Line]:
    """Take from an index object the lines of sources that are still open, and close these sources."""
    index_object = opened(archive, standing.name)
    taken = {
        number: source
        for number, source in enumerate(index_object.sources(archive))
        if source in open_sources
    }
    open_sources.difference_update(taken.values())
    if not taken:
        return iter(())
    renumbered = {number: source_numbers[name] for number, (name, _) in taken.items()}
    lines = (
        line
        for start, end in index_object.pieces(AHEAD)
        for line in read_lines(standing.name, archive.span(standing.name, start, end))
    )
    return ((owner, renumbered[number], raw) for owner, number, raw in lines if number in renumbered)


def _new_lines(
    archive: Archive, kind: Kind, names: Iterable[str], source_numbers: Mapping[str, int]
) -> Iterator[Line]:
    """Yield the lines of archive objects, once per owner. Raises ArchiveDamaged."""
    for name, data in archive.read(names):
        number, source = 0, source_numbers[name]
        try:
            for number, line in enumerate(gzip.decompress(data).split(b"\n"), 1):  # noqa: B007 - named in the error
                raw = line.strip()
                if raw:
                    for owner in kind.owners(raw):
                        yield owner, source, raw
        except (msgspec.DecodeError, OSError, EOFError, zlib.error) as error:
            raise ArchiveDamaged(f"{name}, line {number}: {error}") from error


def _sorted_runs(lines: Iterable[Line], files: ExitStack) -> list[Iterator[Line]]:
    """Sort into runs by owner and source; each source is within one run, so its lines keep their order."""
    runs: list[Iterator[Line]] = []
    held: list[Line] = []
    size, last = 0, b""
    for line in lines:
        if size >= RUN and line[1] != held[-1][1]:
            runs.append(_spilled(held, files))
            held, size = [], 0
        held.append(line)
        if line[2] is not last:
            last = line[2]
            size += len(last)
    held.sort(key=_BY_OWNER)
    return [*runs, iter(held)]


def _spilled(lines: list[Line], files: ExitStack) -> Iterator[Line]:
    """Return the sorted lines from a temporary file owned by `files`."""
    lines.sort(key=_BY_OWNER)
    spill = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    with gzip.GzipFile(fileobj=spill, mode="wb", compresslevel=1) as packed:
        packed.writelines(b"%b %x %b\n" % line for line in lines)
    spill.seek(0)
    return read_lines("a spilled run", spill)
