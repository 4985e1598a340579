"""Opened index objects: the directory by one range read of the end, the sources by another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from history.index.blocks import TRAILER, Directory, read_directory, read_sources, trailer
from history.index.bucket import Archive

TAIL: Final = 64 << 10
"""Bytes of the first read of an object, which holds the directory of most objects."""


@dataclass(frozen=True)
class IndexObject:
    """A directory, and the byte range of the sources between blocks and directory."""

    name: str
    directory: Directory
    sources_at: tuple[int, int]

    def sources(self, archive: Archive) -> list[tuple[str, str]]:
        """Return names and tags of the object's sources. Raises Vanished, ArchiveDamaged."""
        return read_sources(self.name, archive.span(self.name, *self.sources_at).read())

    def pieces(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield byte ranges of all blocks, each about `size` long."""
        offsets = self.directory.offsets
        start = offsets[0]
        for end in offsets[1:]:
            if end - start >= size or end == offsets[-1]:
                yield start, end
                start = end


def opened(archive: Archive, name: str) -> IndexObject:
    """Read an object's directory. Raises Vanished, ArchiveDamaged."""
    tail, length = archive.tail(name, TAIL)
    sources, directory = trailer(name, tail)
    wanted = length - directory
    if wanted > len(tail):
        tail, _ = archive.tail(name, wanted)
    packed = tail[len(tail) - wanted : -TRAILER.size]
    return IndexObject(name, read_directory(name, packed), (sources, directory))
