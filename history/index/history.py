"""Archived commits and events of a few items.

Read from the index as far as it reaches, then from the archive's objects; without an index from all of them.
"""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Protocol, TypeVar

import msgspec

from candor.errors import CandorError
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from history.archive.commits import Commit
from history.archive.events import ENVELOPE, ArchiveDamaged
from history.archive.objects import Object
from history.index.kinds import COMMITS, EVENTS, KINDS, Kind, entity_owner, item_owner, token_of
from history.index.read import ArchiveIndex, OwnedLine
from history.rebuild.rebuild import ArchivedItems

FEW: Final = 8
"""Number of texts up to which searching a line for each is cheaper than decoding it."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Watch = Callable[[Iterator[Object]], Iterable[Object]]
_COMMIT: Final = msgspec.json.Decoder(Commit)


class NotIndexed(CandorError):
    """More of the archive is not yet indexed than the reader accepts to read."""


class EntityHistory:
    """Commits and events of items in `memory`, after `update`; each further call adds what is new.

    `items` are views by item key. `most_unindexed` bounds the archive objects of one kind that an update reads.
    """

    def __init__(
        self,
        index: ArchiveIndex,
        definitions: Definitions,
        items: Mapping[str, FeatureView],
        most_unindexed: int | None = None,
    ) -> None:
        self.memory = ArchivedItems(items, definitions)
        self._index = index
        self._most = most_unindexed
        self._tokens = {key: token_of(view, key) for key, view in items.items()}
        self._keys: defaultdict[bytes, list[str]] = defaultdict(list)
        for key, view in items.items():
            self._keys[entity_owner(view.entity.name, self._tokens[key])].append(key)
        self._after: dict[str, str] = {}
        self._read: set[str] = set()

    def update(self, watch: Watch = iter) -> None:
        """Read what was not read before; `watch` wraps the iterator of archive objects.

        Raises ArchiveDamaged, NotIndexed, Vanished; botocore's errors pass through.

        Commits are read first, so an event archived between the two reads is not missed by a commit that names it.
        """
        for kind in KINDS:
            if kind.name not in self._after:
                lines, after = self._index.lines(kind, self._owners(kind))
                self._take_indexed(kind, lines)
                self._after[kind.name] = after
            self._take_new(kind, watch(self._index.archive.read(self._names(kind))))

    def _owners(self, kind: Kind) -> Collection[bytes]:
        return self._keys if kind is EVENTS else {item_owner(key) for key in self._tokens}

    def _take_indexed(self, kind: Kind, lines: Iterable[OwnedLine]) -> None:
        """Add indexed lines.

        An event has a line for each entity that it names: a line counts for the items of its owner alone.
        """
        if kind is COMMITS:
            self._add_commits(raw for _, raw in lines)
            return
        by_owner: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for owner, raw in lines:
            by_owner[owner].append(raw)
        for owner, raws in by_owner.items():
            self.memory.add_events(_decoded(ENVELOPE, raws), self._keys[owner])

    def _names(self, kind: Kind) -> list[str]:
        unread = (
            name for name in self._index.unindexed(kind, self._after[kind.name]) if name not in self._read
        )
        names = list(unread if self._most is None else islice(unread, self._most + 1))
        if self._most is not None and len(names) > self._most:
            raise NotIndexed("too much of the archive is not indexed yet")
        return names

    def _take_new(self, kind: Kind, objects: Iterable[Object]) -> None:
        needles = self._tokens if kind is COMMITS else self._tokens.values()
        texts = frozenset(text.encode() for text in needles)
        for data in objects:
            lines = _mentioning(data, texts)
            if kind is COMMITS:
                self._add_commits(lines)
            else:
                self.memory.add_events(_decoded(ENVELOPE, lines), self._tokens)
            self._read.add(data[0])

    def _add_commits(self, lines: Iterable[bytes]) -> None:
        for commit in _decoded(_COMMIT, lines):
            if commit.key in self._tokens:
                self.memory.log.add(commit)


def _mentioning(data: Object, texts: Collection[bytes]) -> Iterator[bytes]:
    """Return the lines of an object that may contain any of these texts; JSON may also spell them with escapes."""
    name, packed = data
    try:
        lines = gzip.decompress(packed).split(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise ArchiveDamaged(f"{name}: {error}") from error
    if len(texts) > FEW:
        return (line for line in lines if line.strip())
    return (line for line in lines if b"\\" in line or any(text in line for text in texts))


class _Decoder(Protocol[T_co]):
    """Decoder of a line."""

    def decode(self, line: bytes, /) -> T_co:
        """Decode a line. Raises msgspec.DecodeError."""
        ...


def _decoded(decoder: _Decoder[T], lines: Iterable[bytes]) -> Iterator[T]:
    """Decode lines. Raises ArchiveDamaged."""
    for line in lines:
        try:
            yield decoder.decode(line)
        except msgspec.DecodeError as error:
            raise ArchiveDamaged(f"a line of the archive: {error}") from error
