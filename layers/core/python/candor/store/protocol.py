"""Storage protocols. All implementations pass the same contract tests (tests/store)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Protocol

import msgspec

from candor.features.state import Marker
from candor.features.vector import Read, Version


class Challenger(msgspec.Struct, frozen=True):
    """A bundle that decides for a share of the customers, for comparison with the champion.

    `assignment` is the name that customers are assigned by, empty for the bundle's own.
    """

    bundle: str
    share: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
    assignment: str = ""


class Snapshot(msgspec.Struct, frozen=True):
    """Result of the scorer's read: items by key (unreadable ones are `unavailable`) and the pointer.

    `champion` is the bundle's name, None if none was promoted; `views` the versions of views that do not serve as
    declared. All three are None if there is no pointer, or it could not be read.
    """

    reads: Mapping[str, Read]
    champion: str | None
    views: Mapping[str, str] | None = None
    challenger: Challenger | None = None


class Committed(msgspec.Struct, frozen=True):
    """The commit is durable, with this version."""

    version: Version


class Conflict(msgspec.Struct, frozen=True):
    """Another writer committed first; `current` is the item now (`ABSENT` if deleted)."""

    current: Read


class Duplicates(msgspec.Struct, frozen=True):
    """Some event ids already have a marker; nothing was written."""

    event_ids: frozenset[str]


class Commit(msgspec.Struct, frozen=True):
    """Conditional write of one item: replaces exactly the version `seen` (None: must not exist).

    `expires_at` is in epoch s; None: never. `fingerprints` are those of `event_ids`.
    """

    key: str
    blob: bytes
    seen: Version | None
    event_ids: Sequence[str]
    applied_at: int
    expires_at: int | None
    marker_expiry: int | None = None
    """Epoch s; if set, the same transaction writes a marker item per event id, with its fingerprint."""

    fingerprints: Sequence[int] = ()
    unsettled: Sequence[str] = ()
    """Voids among the event ids without effect, for lack of proof of what their event counted."""

    filled_before: int | None = None
    """Bus time (ms): if set, the item also holds every archived event that the bus accepted before it."""

    rebuilt: bool = False
    """If set, the item was rebuilt from its events without the voided ones."""

    left_out: bool = False
    """If set, the batch also had events too late for every window: earlier moments cannot be read."""

    healing: bool = False
    """If set, later events are kept in a delta until the item is rebuilt."""

    claimant: str = ""
    """Bulk job whose markers do not fit one transaction. They are written before the item, as claims in its name, so
    that meanwhile nobody else applies these events. The same job under the same name may repeat the commit."""


class FeatureStore(Protocol):
    """Feature items, for the updater."""

    def load(self, keys: Sequence[str]) -> Mapping[str, Read]:
        """Strongly consistent read of every key; unreadable items are `unavailable`."""
        ...

    def commit(self, commit: Commit) -> Committed | Conflict | Duplicates:
        """Write, or return the reason why not. Raises `StoreUnavailable` if it is unknown whether it was written."""
        ...

    def markers(self, key: str, event_ids: Sequence[str]) -> Mapping[str, Marker]:
        """Existing marker items of these ids; strongly consistent. Raises `StoreUnavailable`.

        A bulk job's claim does not prove what was counted, so its fingerprint is given as unknown: the job may not have
        written the item yet, or have left the event out.
        """
        ...


class StoredDecision(msgspec.Struct, frozen=True):
    """A stored decision: its record, the merchant's answer byte for byte, and the request's fingerprint."""

    id: str
    merchant_id: str
    fingerprint: str
    record: bytes
    answer: bytes
    q: int
    expires_at: int


class Contended(msgspec.Struct, frozen=True):
    """Another writer changed items of the decision's transaction first: nothing was written.

    `current` holds the items that the store returned (`ABSENT` if deleted); the others must be read again.
    """

    current: Mapping[str, Read]


class DecisionStore(Protocol):
    """The scorer's two store calls."""

    def read(self, keys: Sequence[str], timeout_s: float, synchronous: Sequence[str] = ()) -> Snapshot:
        """Read items and the pointer in one call; never raises, failures are `unavailable`.

        `synchronous` are keys of items that `record` writes; they are read strongly.
        """
        ...

    def record(
        self, decision: StoredDecision, timeout_s: float, commits: Sequence[Commit] = ()
    ) -> StoredDecision | Contended | None:
        """Write the record and the synchronous items in one transaction; None if written.

        Returns the stored decision if the id exists, whatever the state of the items; an identical record counts as
        written. Raises `StoreUnavailable` if it is unknown what is stored: the same id is safe to retry.
        """
        ...


def completion_key(item_key: str, claimant: str) -> str:
    """Key of the marker that says that a bulk job has written what it claimed in an item.

    It holds a hash instead of the item's key, which names a person.
    """
    return f"claims#{claimant}#{blake2b(item_key.encode(), digest_size=16).hexdigest()}"


MARKERS_PER_COMMIT = 99
"""DynamoDB's limit is 100 actions per transaction: the item and its markers."""

SEPARATOR = "#"


def next_version(seen: Version | None, birth: int) -> Version:
    """Version of a commit: the item's next, or the first of a new birth."""
    return Version(birth, 1) if seen is None else Version(seen.birth, seen.n + 1)


def marker_key(item_key: str, event_id: str) -> str:
    """Key of the marker of an event in an item; unique per pair."""
    plain = plain_marker_key(item_key, event_id)
    return f"marker##{len(item_key)}#{item_key}#{event_id}" if is_ambiguous(item_key, event_id) else plain


def plain_marker_key(item_key: str, event_id: str) -> str:
    """Key without a length prefix: entity `a` with id `b#c` and entity `a#b` with id `c` share it.

    Markers of ambiguous pairs were once written under it, so it is still checked for them.
    """
    return f"marker#{item_key}#{event_id}"


def is_ambiguous(item_key: str, event_id: str) -> bool:
    """True if the plain marker key does not delimit the item's key."""
    return SEPARATOR in event_id or item_key.count(SEPARATOR) > 1


def marked(commit: Commit) -> Iterable[tuple[str, int]]:
    """Event ids to mark with the commit, with their events' fingerprints (0: unknown)."""
    if commit.marker_expiry is None:
        return ()
    return zip(commit.event_ids, commit.fingerprints or [0] * len(commit.event_ids), strict=True)


def under_plain_keys(commit: Commit) -> list[str]:
    """Event ids that may also have a marker under their plain key."""
    return [event_id for event_id, _ in marked(commit) if is_ambiguous(commit.key, event_id)]


def events_per_commit(item_key: str, event_ids: Iterable[str]) -> int:
    """Number of events per transaction, with their markers and checks of plain keys."""
    ambiguous = any(is_ambiguous(item_key, event_id) for event_id in event_ids)
    return MARKERS_PER_COMMIT // 2 if ambiguous else MARKERS_PER_COMMIT
