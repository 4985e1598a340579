"""Erasures of persons: tombstones in the registry, by digest of the token.

Items hold tombstones as well, but a new version of a view has no items yet and the archive may receive late copies:
readers of the archive check these.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist, PynamoDBException
from pynamodb.models import Model

from candor.contracts import Event
from candor.errors import StoreUnavailable
from candor.store.dynamodb import ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, bound

PREFIX: Final = "erased#"


class ErasureItem(Model):
    """An erasure in the registry's table."""

    class Meta:
        table_name = "registry"
        billing_mode = "PAY_PER_REQUEST"
        connect_timeout_seconds = CONNECT_TIMEOUT_S
        read_timeout_seconds = READ_TIMEOUT_S
        max_retry_attempts = ATTEMPTS

    pk = UnicodeAttribute(hash_key=True)
    erased_at = NumberAttribute()
    reason = UnicodeAttribute(null=True)
    stand_in = UnicodeAttribute(null=True)
    steps = UnicodeAttribute()


@dataclass(frozen=True)
class Erasure:
    """Erasure of everything before `erased_at` (ms); `steps` are those done, with their results.

    `stand_in` replaces the token in data kept about other entities. It is stored only while the erasure runs: an
    interrupted one must resume with it, and afterwards nothing may link the token to it.
    """

    name: str
    erased_at: int
    reason: str
    stand_in: str | None
    steps: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        return self.stand_in is None


class Tombstones:
    """Moments (ms) of erasure by `name_of`."""

    def __init__(self, erased_at: Mapping[str, int]) -> None:
        self._erased_at = erased_at

    def erased_at(self, kind: str, token: str) -> int | None:
        """Moment (ms) of an entity's erasure, or None."""
        return self._erased_at.get(name_of(kind, token)) if self._erased_at else None

    def touch(self, entities: Mapping[str, str], moment: int) -> bool:
        """True if one of the entities was erased after `moment` (ms): its data of then cannot be reproduced."""
        return any((self.erased_at(*named) or 0) > moment for named in entities.items())

    def honoured(self, event: Event) -> Event | None:
        """The event without entities erased after it occurred; None if none is left."""
        left = {
            kind: token
            for kind, token in event.entities.items()
            if (self.erased_at(kind, token) or 0) <= event.occurred_at
        }
        if len(left) == len(event.entities):
            return event
        return msgspec.structs.replace(event, entities=left) if left else None


class Erasures:
    """Erasures in one registry table. Raises StoreUnavailable if DynamoDB fails."""

    def __init__(self, table: str) -> None:
        self._item = bound(ErasureItem, table)

    def find(self, kind: str, token: str) -> Erasure | None:
        """The latest erasure of an entity, or None."""
        try:
            item = self._item.get(PREFIX + name_of(kind, token), consistent_read=True)
        except DoesNotExist:
            return None
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry could not be read: {error.cause_response_code}") from error
        return _erasure(item)

    def begin(self, kind: str, token: str, at: int, reason: str) -> Erasure:
        """Record the start of an erasure of all before `at` (ms); an unfinished one is resumed as it began."""
        known = self.find(kind, token)
        if known is not None and not known.finished:
            return known
        begun = Erasure(name_of(kind, token), at, reason, f"erased_{secrets.token_hex(16)}", {})
        return self._put(begun)

    def did(self, erasure: Erasure, step: str, what: Any) -> Erasure:
        """Record a finished step."""
        return self._put(replace(erasure, steps={**erasure.steps, step: what}))

    def finish(self, erasure: Erasure) -> Erasure:
        """Record the end of the erasure, and delete the stand-in."""
        return self._put(replace(erasure, stand_in=None))

    def tombstones(self) -> Tombstones:
        """All tombstones, by a scan of the registry, which is small."""
        try:
            items = self._item.scan(ErasureItem.pk.startswith(PREFIX), consistent_read=True)
            return Tombstones({item.pk.removeprefix(PREFIX): int(item.erased_at) for item in items})
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry could not be read: {error.cause_response_code}") from error

    def _put(self, erasure: Erasure) -> Erasure:
        item = self._item(
            PREFIX + erasure.name,
            erased_at=erasure.erased_at,
            reason=erasure.reason or None,
            stand_in=erasure.stand_in,
            steps=json.dumps(erasure.steps, sort_keys=True),
        )
        try:
            item.save()
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry was not written: {error.cause_response_code}") from error
        return erasure


def name_of(kind: str, token: str) -> str:
    """SHA-256 (hex) of the kind of entity and its token."""
    return hashlib.sha256(f"{kind}\0{token}".encode()).hexdigest()


def _erasure(item: ErasureItem) -> Erasure:
    return Erasure(
        item.pk.removeprefix(PREFIX),
        int(item.erased_at),
        item.reason or "",
        item.stand_in,
        json.loads(item.steps),
    )
