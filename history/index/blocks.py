"""Format of an index object: lines sorted by owner in gzip blocks, their sources, and a directory of the blocks.

A line is `owner source raw`: the owner's 16 digits, the index of its source in the object's list (hexadecimal), and
the archive's own bytes. Blocks, sources and directory are gzip members, and so is the fixed-length trailer with the
offsets of the last two: the whole object is one gzip file.

Lines of one owner are in order of arrival: by the keys of their sources, then in source order.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Final, NamedTuple, TypeVar

import msgspec

from history.archive.events import ArchiveDamaged
from history.index.periods import Stamp

BLOCK: Final = 256 << 10
"""Bytes of lines per block before compression: what a reader decompresses for one entity."""

LEVEL: Final = 4
TRAILER: Final = struct.Struct(">16sQQ10s")
"""An empty gzip member whose extra field `CI` holds the offsets of sources and directory (RFC 1952)."""

_HEAD: Final = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x14\0CI\x10\0"
_NOTHING: Final = b"\x03\0" + bytes(8)
_GZIP: Final = 31

T = TypeVar("T")

Line = tuple[bytes, int, bytes]
"""Owner, index of the source, and the archive's bytes without the line end."""


class Directory(NamedTuple):
    """Block offsets and the first owner of each block; the additional last offset is the end of the last block."""

    owners: list[str]
    offsets: list[int]

    def spans(self, wanted: Iterable[bytes]) -> list[tuple[int, int]]:
        """Return the byte ranges (from, to) that hold all lines of these owners; adjacent ranges are merged."""
        joined: list[tuple[int, int]] = []
        for owner in sorted(wanted):
            text = owner.decode()
            # An owner's lines may start in the block before the first one headed by it.
            first = max(bisect_left(self.owners, text) - 1, 0)
            last = bisect_right(self.owners, text)
            if first == last:
                continue
            start, end = self.offsets[first], self.offsets[last]
            if joined and start <= joined[-1][1]:
                joined[-1] = joined[-1][0], end
            else:
                joined.append((start, end))
        return joined


def write(out: IO[bytes], lines: Iterable[Line], sources: Sequence[Stamp]) -> int:
    """Write an index object of sorted lines; return their number."""
    owners: list[str] = []
    offsets: list[int] = []
    count = 0
    for first, number, block in _blocks(lines):
        owners.append(first.decode())
        offsets.append(out.tell())
        out.write(zlib.compress(block, LEVEL, _GZIP))
        count += number
    offsets.append(out.tell())
    out.write(_packed([(source.name, source.tag) for source in sources]))
    directory = out.tell()
    out.write(_packed(Directory(owners, offsets)))
    out.write(TRAILER.pack(_HEAD, offsets[-1], directory, _NOTHING))
    return count


def _blocks(lines: Iterable[Line]) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield each block's first owner, number of lines, and bytes."""
    first, held, size = b"", list[bytes](), 0
    for owner, source, raw in lines:
        if not held:
            first = owner
        line = b"%b %x %b\n" % (owner, source, raw)
        held.append(line)
        size += len(line)
        if size >= BLOCK:
            yield first, len(held), b"".join(held)
            held, size = [], 0
    if held:
        yield first, len(held), b"".join(held)


def _packed(value: object) -> bytes:
    return zlib.compress(msgspec.json.encode(value), LEVEL, _GZIP)


def trailer(name: str, tail: bytes) -> tuple[int, int]:
    """Return the offsets of sources and directory from an object's last bytes. Raises ArchiveDamaged."""
    if len(tail) < TRAILER.size:
        raise ArchiveDamaged(f"{name}: not an index object")
    head, sources, directory, nothing = TRAILER.unpack(tail[-TRAILER.size :])
    if (head, nothing) != (_HEAD, _NOTHING):
        raise ArchiveDamaged(f"{name}: not an index object")
    return sources, directory


def read_directory(name: str, packed: bytes) -> Directory:
    """Decode a directory from its gzip member. Raises ArchiveDamaged."""
    return _unpacked(name, packed, Directory)


def read_sources(name: str, packed: bytes) -> list[tuple[str, str]]:
    """Decode names and tags of the sources from their gzip member. Raises ArchiveDamaged."""
    return _unpacked(name, packed, list[tuple[str, str]])


def _unpacked(name: str, packed: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(gzip.decompress(packed), type=kind)
    except (msgspec.DecodeError, OSError, EOFError, zlib.error) as error:
        raise ArchiveDamaged(f"{name}: {error}") from error


def read_lines(name: str, stream: IO[bytes]) -> Iterator[Line]:
    """Yield the lines of consecutive blocks. Raises ArchiveDamaged."""
    try:
        with gzip.GzipFile(fileobj=stream) as text:
            for line in text:
                owner, source, raw = line.split(b" ", 2)
                yield owner, int(source, 16), raw[:-1]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ArchiveDamaged(f"{name}: {error}") from error


def owned(lines: Iterable[Line], wanted: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield owner and bytes of the lines of these owners."""
    owners = frozenset(wanted)
    return ((owner, raw) for owner, _, raw in lines if owner in owners)
