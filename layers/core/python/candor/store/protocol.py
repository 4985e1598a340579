"""The seam to storage. Every implementation passes the same contract suite (tests/store)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Protocol

import msgspec

from candor.features.state import Marker
from candor.features.vector import Read, Version


class Challenger(msgspec.Struct, frozen=True):
    """A bundle that decides for a share of the customers, to be compared with the champion."""

    bundle: str
    share: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]


class Snapshot(msgspec.Struct, frozen=True):
    """The scorer's one read: items by key (a key that could not be read is `unavailable`) and what the pointer says.

    `champion` is the bundle's name, None if none was promoted; `views` the version of every view that does not serve as
    declared; `challenger` who decides beside the champion. All are None if there is no pointer, or it could not be read.
    """

    reads: Mapping[str, Read]
    champion: str | None
    views: Mapping[str, str] | None = None
    challenger: Challenger | None = None


class Committed(msgspec.Struct, frozen=True):
    """The commit is durable under this version."""

    version: Version


class Conflict(msgspec.Struct, frozen=True):
    """Someone else committed first; `current` is what now stands (`ABSENT` if it is gone)."""

    current: Read


class Duplicates(msgspec.Struct, frozen=True):
    """These event ids already have a marker; nothing was written."""

    event_ids: frozenset[str]


class Commit(msgspec.Struct, frozen=True):
    """One conditional write of one item: replaces exactly the version `seen` (None: must not exist).

    `expires_at` is in epoch s; None: never. `fingerprints` belong to `event_ids`.
    """

    key: str
    blob: bytes
    seen: Version | None
    event_ids: Sequence[str]
    applied_at: int
    expires_at: int | None
    marker_expiry: int | None = None
    """Epoch s; if set, every event id is also written as a marker item, with its fingerprint, in the same transaction."""

    fingerprints: Sequence[int] = ()
    unsettled: Sequence[str] = ()
    """Voids among the event ids that took nothing back: it could not be shown what their event counted."""

    filled_before: int | None = None
    """Bus time (ms): if set, every archived event of the item that the bus took before it is in as well."""

    rebuilt: bool = False
    """If set, the item was computed anew from the events it held, without those that were voided."""

    left_out: bool = False
    """If set, other events came with these that were too late for every window: earlier moments cannot be read."""

    healing: bool = False
    """If set, what comes after this version is kept apart until the item is rebuilt."""


class FeatureStore(Protocol):
    """Feature items, for the updater."""

    def load(self, keys: Sequence[str]) -> Mapping[str, Read]:
        """Strongly consistent read of every key; what could not be read is `unavailable`."""
        ...

    def commit(self, commit: Commit) -> Committed | Conflict | Duplicates:
        """Write, or say why not. Raises `StoreUnavailable` when it is unknown whether it was written."""
        ...

    def markers(self, key: str, event_ids: Sequence[str]) -> Mapping[str, Marker]:
        """Marker items of these ids, as far as they exist; strongly consistent. Raises `StoreUnavailable`."""
        ...


class StoredDecision(msgspec.Struct, frozen=True):
    """A decision as stored: its record, the merchant's answer byte for byte, and the request's fingerprint."""

    id: str
    merchant_id: str
    fingerprint: str
    record: bytes
    answer: bytes
    q: int
    expires_at: int


class Contended(msgspec.Struct, frozen=True):
    """Someone wrote first to items that a decision was to change: nothing was written, its record neither.

    `current` is what now stands (`ABSENT` if it is gone), as far as the store told; the rest must be read again.
    """

    current: Mapping[str, Read]


class DecisionStore(Protocol):
    """The scorer's two calls."""

    def read(self, keys: Sequence[str], timeout_s: float, synchronous: Sequence[str] = ()) -> Snapshot:
        """Items and champion pointer in one call; never raises, failures are `unavailable`.

        `synchronous` are keys of items that `record` writes: they are read strongly.
        """
        ...

    def record(
        self, decision: StoredDecision, timeout_s: float, commits: Sequence[Commit] = ()
    ) -> StoredDecision | Contended | None:
        """Write the record and the synchronous items, all or nothing; None if written.

        An id that exists answers with what was stored before, whatever became of the items; the very same record
        counts as written. Raises `StoreUnavailable` if it is not certain what is stored: the same id is safe to retry.
        """
        ...


MARKERS_PER_COMMIT = 99
"""DynamoDB takes 100 actions in a transaction: the item and its markers."""

SEPARATOR = "#"


def next_version(seen: Version | None, birth: int) -> Version:
    """The version a commit gets: the next of its item, or the first of a new birth."""
    return Version(birth, 1) if seen is None else Version(seen.birth, seen.n + 1)


def marker_key(item_key: str, event_id: str) -> str:
    """Key of the marker that says: this event is in this item. No two pairs share one."""
    plain = plain_marker_key(item_key, event_id)
    return f"marker##{len(item_key)}#{item_key}#{event_id}" if is_ambiguous(item_key, event_id) else plain


def plain_marker_key(item_key: str, event_id: str) -> str:
    """Key without the length of its first part, which entity `a` with id `b#c` and `a#b` with id `c` share.

    Markers were written under it, so those of ambiguous pairs are still looked for here, too.
    """
    return f"marker#{item_key}#{event_id}"


def is_ambiguous(item_key: str, event_id: str) -> bool:
    """True if the plain marker key does not tell where the item's key ends."""
    return SEPARATOR in event_id or item_key.count(SEPARATOR) > 1


def marked(commit: Commit) -> Iterable[tuple[str, int]]:
    """Event ids that get a marker with the commit, each with the fingerprint of its event (0: not known)."""
    if commit.marker_expiry is None:
        return ()
    return zip(commit.event_ids, commit.fingerprints or [0] * len(commit.event_ids), strict=True)


def under_plain_keys(commit: Commit) -> list[str]:
    """Event ids that may have a marker under their plain key, too."""
    return [event_id for event_id, _ in marked(commit) if is_ambiguous(commit.key, event_id)]


def events_per_commit(item_key: str, event_ids: Iterable[str]) -> int:
    """Number of events that one transaction takes with their markers, and a check of those under plain keys."""
    ambiguous = any(is_ambiguous(item_key, event_id) for event_id in event_ids)
    return MARKERS_PER_COMMIT // 2 if ambiguous else MARKERS_PER_COMMIT
