"""A person's items: replaced by tombstones, or deleted.

A tombstone is version (birth, 0) of a new birth: it applied no event, so it needs no log line, and later commits
number from 1 as in any other item.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pynamodb.exceptions import PutError, PynamoDBException

from candor.clock import SECOND
from candor.errors import CorruptItem, StoreUnavailable
from candor.features.definitions import Definitions
from candor.features.state import ViewState
from candor.features.vector import Read
from candor.features.views import FeatureView
from candor.store import layout
from candor.store.dynamodb import DynamoFeatureStore, FeatureItem, bound
from candor.store.protocol import marker_key
from candor.updates import Retention
from history.erasure.lines import Person

ATTEMPTS: Final = 12
MARKER: Final = marker_key("", "").partition("#")[0] + "#"


@dataclass
class PersonItems:
    """The person's items of declared views: `held` keys with erasable data, births of those written since."""

    held: list[str] = field(default_factory=list)
    living: dict[str, int] = field(default_factory=dict)


class Items:
    """Items of one person in the tables of plain and of synchronous views. Raises StoreUnavailable."""

    def __init__(
        self, person: Person, definitions: Definitions, tables: Sequence[str], retention: Retention
    ) -> None:
        self._person, self._definitions, self._retention = person, definitions, retention
        self._tables = [bound(FeatureItem, table) for table in tables]
        self._stores = [DynamoFeatureStore(table) for table in tables]
        self._views: Mapping[str, FeatureView] = {
            key: view
            for view in definitions.kept
            if view.entity.name == person.kind
            for key in view.item_keys(person.token)
        }

    @property
    def declared(self) -> list[str]:
        """Keys of the items that the updater may write."""
        return list(self._views)

    def standing(self, erased_at: int) -> PersonItems:
        """Return the items that hold data from before that moment (ms), and those written since."""
        items = PersonItems()
        for key, view in self._views.items():
            read = self._read(key, view)
            if read.version is None:
                continue
            state = _state(view, read)
            if not _stays(state, erased_at):
                items.held.append(key)
            elif state is not None and state.born is not None:
                items.living[key] = read.version.birth
        return items

    def bury(self, erased_at: int, now_ms: int) -> int:
        """Replace every declared item by a tombstone, absent ones included; return how many were written.

        An absent item needs none once no queue can redeliver events from before the erasure.
        """
        reachable = now_ms < erased_at + self._retention.event_ids
        return sum(
            self._bury_item(key, view, erased_at, now_ms, even_absent=reachable)
            for key, view in self._views.items()
        )

    def _bury_item(
        self, key: str, view: FeatureView, erased_at: int, now_ms: int, *, even_absent: bool
    ) -> bool:
        for _ in range(ATTEMPTS):
            read = self._read(key, view)
            state = _state(view, read)
            if _stays(state, erased_at) or (read.version is None and not even_absent):
                return False
            tombstone = state or ViewState.new(view)
            tombstone.erase(erased_at)
            if self._put(key, view, tombstone, read, now_ms):
                return True
        raise StoreUnavailable(f"{ATTEMPTS} conflicting writers on one item; run this again")

    def _put(self, key: str, view: FeatureView, tombstone: ViewState, seen: Read, now_ms: int) -> bool:
        item = self._table(view)(
            key,
            state=tombstone.encode(),
            birth=time.time_ns(),
            number=0,
            applied_at=now_ms,
            event_ids=b"[]",
            expires_at=(now_ms + self._retention.event_ids) // SECOND,
        )
        unchanged = FeatureItem.pk.does_not_exist()
        if seen.version is not None:
            unchanged = (FeatureItem.birth == seen.version.birth) & (FeatureItem.number == seen.version.n)
        try:
            item.save(condition=unchanged)
        except PutError as error:
            if error.cause_response_code == "ConditionalCheckFailedException":
                return False
            raise StoreUnavailable(f"the item was not written: {error.cause_response_code}") from error
        return True

    def present(self, keys: Iterable[str]) -> list[tuple[int, str]]:
        """Return which of these keys, of items or markers, exist, as (table number, key)."""
        wanted = sorted(set(keys) - self._views.keys())
        try:
            return [
                (number, item.pk)
                for number, table in enumerate(self._tables)
                for item in (table.batch_get(wanted, attributes_to_get=[layout.KEY]) if wanted else ())
            ]
        except PynamoDBException as error:
            raise StoreUnavailable(f"items could not be read: {error.cause_response_code}") from error

    def scanned(self, living: Mapping[str, int]) -> list[str]:
        """Return keys of the person's items and markers, except declared or living ones. Scans both tables."""
        owned: list[str] = []
        try:
            for table in self._tables:
                mentions = FeatureItem.pk.contains(f"#{self._person.token}")
                keys = (item.pk for item in table.scan(mentions, attributes_to_get=[layout.KEY]))
                owned += [key for key in keys if self._owns(key, living)]
        except PynamoDBException as error:
            raise StoreUnavailable(f"a table could not be read: {error.cause_response_code}") from error
        return owned

    def _owns(self, key: str, living: Mapping[str, int]) -> bool:
        item = key.removeprefix(MARKER).rpartition("#")[0] if key.startswith(MARKER) else key
        if item in living or key in self._views:
            return False
        return self._person.owns(item, self._definitions)

    def delete(self, present: Iterable[tuple[int, str]]) -> None:
        """Delete markers and items of undeclared versions: tombstones stop redelivered events."""
        try:
            for number, key in present:
                self._tables[number](key).delete()
        except PynamoDBException as error:
            raise StoreUnavailable(f"an item was not deleted: {error.cause_response_code}") from error

    def _table(self, view: FeatureView) -> type[FeatureItem]:
        return self._tables[view.synchronous]

    def _read(self, key: str, view: FeatureView) -> Read:
        read = self._stores[view.synchronous].load([key])[key]
        if read.state == "unavailable":
            raise StoreUnavailable("an item could not be read; run this again")
        return read


def _state(view: FeatureView, read: Read) -> ViewState | None:
    """Decode the item; None if it is absent or unreadable."""
    try:
        return None if read.blob is None else ViewState.decode(view, read.blob)
    except CorruptItem:
        return None


def _stays(state: ViewState | None, erased_at: int) -> bool:
    """True if the item holds nothing from before that moment."""
    if state is None:
        return False
    return (state.erased_at or 0) >= erased_at or (state.born is not None and state.born >= erased_at)
