"""Reader of the index: lines of a few owners, from several objects concurrently."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Final

from history.archive.objects import SUFFIX
from history.index.blocks import owned, read_lines
from history.index.bucket import Archive, Vanished
from history.index.index_object import opened
from history.index.kinds import Kind
from history.index.periods import IndexedPeriod, chosen, covered, hour_prefix, standing

READERS: Final = 16
"""Index objects read concurrently."""

ATTEMPTS: Final = 3
"""Reads that may find an object replaced before the reader gives up."""

DIRECTORIES: Final = 128
"""Directories cached: an index object never changes."""

OwnedLine = tuple[bytes, bytes]
"""An owner, and one of its lines with the archive's bytes."""


class ArchiveIndex:
    """Index of one archive. It caches directories: keep it for the life of the process. Thread-safe."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self._opened = lru_cache(DIRECTORIES)(partial(opened, archive))

    def lines(self, kind: Kind, owners: Collection[bytes]) -> tuple[list[OwnedLine], str]:
        """Return the indexed lines of these owners, by arrival, and the name after which nothing is indexed.

        Raises ArchiveDamaged; Vanished if the index is rebuilt faster than it can be read.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return self._lines(kind, owners)
            except Vanished:
                continue
        return self._lines(kind, owners)

    def _lines(self, kind: Kind, owners: Collection[bytes]) -> tuple[list[OwnedLine], str]:
        objects = standing(kind, self.archive.stamps(kind.index_prefix))
        with ThreadPoolExecutor(READERS) as pool:
            parts = pool.map(lambda item: self._of(item, owners), chosen(objects))
            lines = [line for part in parts for line in part]
        return lines, hour_prefix(kind, covered(objects))

    def _of(self, item: IndexedPeriod, owners: Collection[bytes]) -> Sequence[OwnedLine]:
        return [
            line
            for start, end in self._opened(item.name).directory.spans(owners)
            for line in owned(read_lines(item.name, self.archive.span(item.name, start, end)), owners)
        ]

    def unindexed(self, kind: Kind, after: str) -> Iterator[str]:
        """Yield names of archive objects that follow a name."""
        return (
            stamp.name for stamp in self.archive.stamps(kind.prefix, after) if stamp.name.endswith(SUFFIX)
        )
