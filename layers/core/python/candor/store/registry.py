"""The registry: every bundle that a run made, and the one pointer that says which of them serves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException
from pynamodb.expressions.condition import Condition
from pynamodb.models import Model

from candor.errors import BundleRefused, CandorError, StoreUnavailable
from candor.store.dynamodb import ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, bound

CHAMPION: Final = "champion"
REGISTERED: Final = "registered"
REFUSED: Final = "refused"


class PromotionConflict(CandorError):
    """Someone else moved the champion pointer in the meantime: look at it, then promote again."""


class RegistryItem(Model):
    """The champion pointer (bundle, promoted_at, by) or one bundle (state, metrics, run, created_at)."""

    class Meta:
        table_name = "registry"
        billing_mode = "PAY_PER_REQUEST"
        connect_timeout_seconds = CONNECT_TIMEOUT_S
        read_timeout_seconds = READ_TIMEOUT_S
        max_retry_attempts = ATTEMPTS

    pk = UnicodeAttribute(hash_key=True)
    bundle = UnicodeAttribute(null=True)
    promoted_at = NumberAttribute(null=True)
    by = UnicodeAttribute(null=True)
    state = UnicodeAttribute(null=True)
    metrics = UnicodeAttribute(null=True)
    run = UnicodeAttribute(null=True)
    created_at = NumberAttribute(null=True)


@dataclass(frozen=True)
class Champion:
    """Which bundle serves, since when (ms UTC) and by whose word."""

    bundle: str
    promoted_at: int
    by: str


@dataclass(frozen=True)
class Registration:
    """One bundle: `registered` (it may serve) or `refused` (its gate failed), with the run that made it."""

    bundle: str
    state: str
    metrics: Mapping[str, Any]
    run: str
    created_at: int


class Registry:
    """One registry table. Raises StoreUnavailable where DynamoDB does not answer."""

    def __init__(self, table: str) -> None:
        self._item = bound(RegistryItem, table)

    def register(self, registration: Registration) -> None:
        """Write a bundle's item once. Again with the same state changes nothing; a new verdict replaces the old."""
        item = self._item(
            _key(registration.bundle),
            state=registration.state,
            metrics=json.dumps(dict(registration.metrics), sort_keys=True, separators=(",", ":")),
            run=registration.run,
            created_at=registration.created_at,
        )
        self._put(item, RegistryItem.pk.does_not_exist() | (RegistryItem.state != registration.state))

    def registration(self, sha: str) -> Registration | None:
        """What is known of a bundle, or None."""
        item = self._get(_key(sha))
        if item is None:
            return None
        return Registration(
            sha, str(item.state), json.loads(item.metrics or "{}"), str(item.run), int(item.created_at or 0)
        )

    def champion(self) -> Champion | None:
        """The bundle that serves, or None before the first promotion."""
        item = self._get(CHAMPION)
        return Champion(str(item.bundle), int(item.promoted_at or 0), str(item.by)) if item else None

    def promote(self, sha: str, *, by: str, at: int) -> Champion:
        """Point at a registered bundle; a rollback is the same call with an earlier one.

        Already champion: nothing changes. Raises BundleRefused for an unknown bundle or one whose gate failed,
        PromotionConflict if the pointer moved between reading and writing.
        """
        known = self.registration(sha)
        if known is None or known.state != REGISTERED:
            raise BundleRefused(
                f"bundle {sha[:12]} is {known.state if known else 'unknown'}: it cannot serve"
            )
        seen = self.champion()
        if seen is not None and seen.bundle == sha:
            return seen
        unmoved = RegistryItem.pk.does_not_exist()
        if seen is not None:
            unmoved = (RegistryItem.bundle == seen.bundle) & (RegistryItem.promoted_at == seen.promoted_at)
        if not self._put(self._item(CHAMPION, bundle=sha, promoted_at=at, by=by), unmoved):
            raise PromotionConflict(
                "the champion changed while this promotion was decided; look at it and promote again"
            )
        return Champion(sha, at, by)

    def _get(self, key: str) -> RegistryItem | None:
        try:
            return self._item.get(key, consistent_read=True)
        except DoesNotExist:
            return None
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry could not be read: {error.cause_response_code}") from error

    @staticmethod
    def _put(item: RegistryItem, condition: Condition) -> bool:
        """True if written, False if the condition did not hold."""
        try:
            item.save(condition=condition)
        except PutError as error:
            if error.cause_response_code == "ConditionalCheckFailedException":
                return False
            raise StoreUnavailable(f"the registry was not written: {error.cause_response_code}") from error
        return True


def _key(sha: str) -> str:
    return f"bundle#{sha}"
