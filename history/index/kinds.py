"""Indexed kinds of lines: events by each entity that they name, and commits by item."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from candor.errors import CandorError
from candor.features.views import FeatureView
from history.archive.commits import COMMITS_PREFIX
from history.archive.events import ENVELOPE, EVENTS_PREFIX

INDEX_PREFIX: Final = "index/"


class ForeignKey(CandorError):
    """The key does not belong to an item of this view."""


class _Detail(msgspec.Struct):
    entities: dict[str, str]


class _CommitLine(msgspec.Struct):
    key: str


_DETAIL: Final = msgspec.json.Decoder(_Detail)
_COMMIT: Final = msgspec.json.Decoder(_CommitLine)


@lru_cache(1 << 16)
def owner(*names: str) -> bytes:
    """Sort key of an owner's lines: 16 hexadecimal digits of a hash of its names.

    Owners may collide: readers check the line itself.
    """
    return hashlib.blake2b("\0".join(names).encode(), digest_size=8).hexdigest().encode()


def entity_owner(kind: str, token: str) -> bytes:
    """Owner of an entity's events."""
    return owner(kind, token)


def item_owner(key: str) -> bytes:
    """Owner of an item's commits."""
    return owner(key)


def token_of(view: FeatureView, key: str) -> str:
    """Return the entity's token in an item key. Raises ForeignKey."""
    token = key.partition("#")[2]
    if view.shards > 1:
        token = token.rpartition("/")[0]
    if key not in view.item_keys(token):
        raise ForeignKey(f"the key does not belong to an item of {view.name}@{view.version}")
    return token


def _owners_of_event(line: bytes) -> Sequence[bytes]:
    """Owners of an event: every entity it names.

    An event that no reader accepts has none; raises DecodeError where readers do.
    """
    detail = ENVELOPE.decode(line).detail
    try:
        entities = _DETAIL.decode(detail).entities
    except (msgspec.DecodeError, RecursionError):
        return ()
    return [entity_owner(kind, token) for kind, token in entities.items()]


def _owners_of_commit(line: bytes) -> Sequence[bytes]:
    return (item_owner(_COMMIT.decode(line).key),)


@dataclass(frozen=True)
class Kind:
    """One part of the archive: the prefix of its lines, and their owners. `owners` raises DecodeError."""

    name: str
    prefix: str
    owners: Callable[[bytes], Sequence[bytes]]

    @property
    def index_prefix(self) -> str:
        """Prefix of its index objects."""
        return f"{INDEX_PREFIX}{self.name}/"


EVENTS: Final = Kind("events", EVENTS_PREFIX, _owners_of_event)
COMMITS: Final = Kind("commits", COMMITS_PREFIX, _owners_of_commit)
KINDS: Final = (COMMITS, EVENTS)
