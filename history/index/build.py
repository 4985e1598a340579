"""An index object made of what earlier ones hold already and of the archive's objects that none of them holds.

So a late object, one that an erasure rewrote, one that expired and the roll-up of hours into a day are the same work: each
source's lines are taken from an index object that has them under the same entity tag, else read. Runs of sorted lines are
merged; what does not fit into memory is spilled.
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
"""Bytes of the archive's lines that are sorted in memory at a time; the owners of a line share its bytes."""

_BY_OWNER: Final = itemgetter(0)
"""Lines come in the order of their sources, and a sort keeps that."""

AHEAD: Final = 1 << 20
"""Bytes of an index object that are fetched at a time."""


def build(
    archive: Archive, kind: Kind, sources: Sequence[Stamp], earlier: Sequence[IndexedPeriod], out: IO[bytes]
) -> int:
    """Write the index object of these sources; `earlier` are objects that may hold some of them already.

    Returns the number of its lines. Raises ArchiveDamaged, Vanished.
    """
    ordered = sorted(sources)
    place = {source.name: number for number, source in enumerate(ordered)}
    open_sources = {(source.name, source.tag) for source in ordered}
    with ExitStack() as files:
        runs = [_kept(archive, standing, place, open_sources) for standing in earlier]
        left = [source.name for source in ordered if (source.name, source.tag) in open_sources]
        runs += _sorted_runs(_new_lines(archive, kind, left, place), files)
        return write_object(out, heapq.merge(*runs), ordered)


def _kept(
    archive: Archive, standing: IndexedPeriod, place: Mapping[str, int], open_sources: set[tuple[str, str]]
) -> Iterator[Line]:
    """The lines of those sources of an index object that are still wanted and not taken; takes them."""
    index_object = opened(archive, standing.name)
    taken = {
        number: source
        for number, source in enumerate(index_object.sources(archive))
        if source in open_sources
    }
    open_sources.difference_update(taken.values())
    if not taken:
        return iter(())
    renumbered = {number: place[name] for number, (name, _) in taken.items()}
    lines = (
        line
        for start, end in index_object.pieces(AHEAD)
        for line in read_lines(standing.name, archive.span(standing.name, start, end))
    )
    return ((owner, renumbered[number], raw) for owner, number, raw in lines if number in renumbered)


def _new_lines(
    archive: Archive, kind: Kind, names: Iterable[str], place: Mapping[str, int]
) -> Iterator[Line]:
    """The lines of the archive's objects, once for each of their owners. Raises ArchiveDamaged."""
    for name, data in archive.read(names):
        number, source = 0, place[name]
        try:
            for number, line in enumerate(gzip.decompress(data).split(b"\n"), 1):  # noqa: B007 - named in the error
                raw = line.strip()
                if raw:
                    for owner in kind.owners(raw):
                        yield owner, source, raw
        except (msgspec.DecodeError, OSError, EOFError, zlib.error) as error:
            raise ArchiveDamaged(f"{name}, line {number}: {error}") from error


def _sorted_runs(lines: Iterable[Line], files: ExitStack) -> list[Iterator[Line]]:
    """Runs in the order of owners and sources; a source is whole in one of them, so its lines keep their order."""
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
    """The sorted lines from a file that goes with `files`."""
    lines.sort(key=_BY_OWNER)
    spill = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    with gzip.GzipFile(fileobj=spill, mode="wb", compresslevel=1) as packed:
        packed.writelines(b"%b %x %b\n" % line for line in lines)
    spill.seek(0)
    return read_lines("a spilled run", spill)
