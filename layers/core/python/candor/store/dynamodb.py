"""DynamoDB by pynamodb: table models, and all access except the scorer's two calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.attributes import BinaryAttribute, BooleanAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.connection import Connection
from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException, TransactWriteError
from pynamodb.expressions.condition import Condition
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite

from candor.errors import StoreUnavailable
from candor.features.state import Marker
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version
from candor.store import layout
from candor.store.protocol import (
    Commit,
    Committed,
    Conflict,
    Contended,
    Duplicates,
    Snapshot,
    StoredDecision,
    completion_key,
    events_per_commit,
    is_ambiguous,
    marked,
    marker_key,
    next_version,
    plain_marker_key,
    under_plain_keys,
)

CONNECT_TIMEOUT_S = 1
READ_TIMEOUT_S = 5
ATTEMPTS = 2
KEYS_PER_READ = 100
"""Limit of BatchGetItem."""

CONDITION_FAILED = "ConditionalCheckFailed"
IN_CONFLICT = "TransactionConflict"
"""Cancellation reasons of a transaction: a failed condition, or another transaction on the same item."""

M = TypeVar("M", bound=Model)


class _Settings:
    """Settings of every table: the library's default time-outs are 15 and 30 seconds."""

    billing_mode = "PAY_PER_REQUEST"
    connect_timeout_seconds = CONNECT_TIMEOUT_S
    read_timeout_seconds = READ_TIMEOUT_S
    max_retry_attempts = ATTEMPTS


class FeatureItem(Model):
    """State of one (view, entity), or the marker of an applied event."""

    class Meta(_Settings):
        table_name = "features"

    pk = UnicodeAttribute(attr_name=layout.KEY, hash_key=True)
    state = BinaryAttribute(attr_name=layout.STATE, null=True, legacy_encoding=False)
    birth = NumberAttribute(attr_name=layout.BIRTH, null=True)
    number = NumberAttribute(attr_name=layout.NUMBER, null=True)
    applied_at = NumberAttribute(attr_name=layout.APPLIED_AT, null=True)
    event_ids = BinaryAttribute(attr_name=layout.EVENT_IDS, null=True, legacy_encoding=False)
    filled_before = NumberAttribute(attr_name=layout.FILLED_BEFORE, null=True)
    rebuilt = BooleanAttribute(attr_name=layout.REBUILT, null=True)
    left_out = BooleanAttribute(attr_name=layout.LEFT_OUT, null=True)
    unsettled = BinaryAttribute(attr_name=layout.UNSETTLED, null=True, legacy_encoding=False)
    healing = BooleanAttribute(attr_name=layout.HEALING, null=True)
    fingerprint = NumberAttribute(attr_name=layout.FINGERPRINT, null=True)
    claimant = UnicodeAttribute(attr_name=layout.CLAIMANT, null=True)
    expires_at = NumberAttribute(attr_name=layout.EXPIRES_AT, null=True)


class DecisionItem(Model):
    """A stored decision."""

    class Meta(_Settings):
        table_name = "decisions"

    pk = UnicodeAttribute(attr_name=layout.KEY, hash_key=True)
    merchant_id = UnicodeAttribute(attr_name=layout.MERCHANT)
    fingerprint = UnicodeAttribute(attr_name=layout.REQUEST)
    record = BinaryAttribute(attr_name=layout.RECORD, legacy_encoding=False)
    answer = BinaryAttribute(attr_name=layout.ANSWER, legacy_encoding=False)
    q = NumberAttribute(attr_name=layout.MOMENT)
    expires_at = NumberAttribute(attr_name=layout.EXPIRES_AT)


class MerchantItem(Model):
    """A merchant's API key by its SHA-256; the key itself is not stored."""

    class Meta(_Settings):
        table_name = "merchants"

    pk = UnicodeAttribute(hash_key=True)
    merchant_id = UnicodeAttribute()
    status = UnicodeAttribute()
    livemode = BooleanAttribute()


def bound(model: type[M], table: str) -> type[M]:
    """The model bound to a table by name; names come from the environment."""

    class Bound(model):  # type: ignore[misc, valid-type] # the base is an argument
        class Meta(model.Meta):  # type: ignore[misc, name-defined] # as above
            table_name = table

    return Bound


class DynamoFeatureStore:
    """Feature items and markers in one table."""

    def __init__(self, table: str) -> None:
        self._item = bound(FeatureItem, table)

    def load(self, keys: Sequence[str]) -> Mapping[str, Read]:
        reads = dict.fromkeys(keys, UNAVAILABLE)
        for start in range(0, len(keys), KEYS_PER_READ):
            page = keys[start : start + KEYS_PER_READ]
            try:
                stored = {item.pk: _read(item) for item in self._item.batch_get(page, consistent_read=True)}
            except PynamoDBException:
                continue  # these keys stay unavailable: their events are redelivered
            reads |= {key: stored.get(key, ABSENT) for key in page}
        return reads

    def markers(self, key: str, event_ids: Sequence[str]) -> Mapping[str, Marker]:
        names = {
            name: event_id
            for event_id in event_ids
            for name in (plain_marker_key(key, event_id), marker_key(key, event_id))
        }
        markers: dict[str, Marker] = {}
        try:
            for start in range(0, len(names), KEYS_PER_READ):
                page = list(names)[start : start + KEYS_PER_READ]
                for item in self._item.batch_get(page, consistent_read=True):
                    fingerprint = 0 if item.claimant else int(item.fingerprint or 0)
                    markers[names[item.pk]] = Marker(fingerprint, int(item.expires_at))
        except PynamoDBException as error:
            raise StoreUnavailable(f"markers could not be read: {error.cause_response_code}") from error
        return markers

    def commit(self, commit: Commit) -> Committed | Conflict | Duplicates:
        version = next_version(commit.seen, time.time_ns())
        if commit.marker_expiry is None:
            return self._put(commit, version)
        if commit.claimant:
            return self._commit_claimed(commit, version)
        return self._transact(commit, version)

    def _put(self, commit: Commit, version: Version) -> Committed | Conflict:
        try:
            self._committed(commit, version).save(condition=_unchanged(commit.seen))
        except PutError as error:
            if error.cause_response_code != "ConditionalCheckFailedException":
                raise StoreUnavailable(f"the item was not written: {error.cause_response_code}") from error
            return Conflict(self.load([commit.key])[commit.key])
        return Committed(version)

    def _transact(self, commit: Commit, version: Version) -> Committed | Conflict | Duplicates:
        try:
            with TransactWrite(connection=_connection()) as transaction:
                self.add(commit, version, transaction)
        except TransactWriteError as error:
            return self._cancelled(commit, error)
        return Committed(version)

    def _commit_claimed(self, commit: Commit, version: Version) -> Committed | Conflict | Duplicates:
        """Claim the events' markers, then write the item, unless the same job has written it before."""
        marks = list(marked(commit))
        size = events_per_commit(commit.key, commit.event_ids)
        known = frozenset[str]().union(
            *(self._claim(commit, marks[start : start + size]) for start in range(0, len(marks), size))
        )
        if known:
            return Duplicates(known)
        try:
            with TransactWrite(connection=_connection()) as transaction:
                transaction.save(self._committed(commit, version), condition=_unchanged(commit.seen))
                completion = self._item(
                    completion_key(commit.key, commit.claimant), expires_at=commit.marker_expiry
                )
                transaction.save(completion, condition=FeatureItem.pk.does_not_exist())
        except TransactWriteError as error:
            if _codes(error)[1:] == [CONDITION_FAILED]:
                return Duplicates(frozenset(commit.event_ids))
            return self._cancelled(commit, error)
        return Committed(version)

    def _claim(self, commit: Commit, marks: Sequence[tuple[str, int]]) -> frozenset[str]:
        """Write markers in the name of the job; returns the ids that others have marked, and then writes none.

        By boto3's own client: pynamodb needs ten times as long for a transaction of a hundred small items.
        """
        table = self._item.Meta.table_name
        actions = [_claim_action(table, commit, event_id, print_) for event_id, print_ in marks]
        ambiguous = [event_id for event_id, _ in marks if is_ambiguous(commit.key, event_id)]
        for event_id in ambiguous:
            key = {layout.KEY: {"S": plain_marker_key(commit.key, event_id)}}
            condition = f"attribute_not_exists({layout.KEY})"
            actions.append(
                {"ConditionCheck": {"TableName": table, "Key": key, "ConditionExpression": condition}}
            )
        try:
            client: Any = _connection().client
            client.transact_write_items(TransactItems=actions)
        except ClientError as error:
            ids = [*(event_id for event_id, _ in marks), *ambiguous]
            reasons = error.response.get("CancellationReasons", ())
            known = [
                name
                for name, reason in zip(ids, reasons, strict=False)
                if reason.get("Code") == CONDITION_FAILED
            ]
            if not known:
                raise StoreUnavailable(
                    f"markers were not written: {error.response['Error']['Code']}"
                ) from error
            return frozenset(known)
        except BotoCoreError as error:
            raise StoreUnavailable(f"markers were not written: {type(error).__name__}") from error
        return frozenset()

    def add(self, commit: Commit, version: Version, transaction: TransactWrite) -> None:
        """Add the item under its condition, and its markers, to a transaction."""
        item = self._committed(commit, version)
        transaction.save(item, condition=_unchanged(commit.seen))
        for event_id, fingerprint in marked(commit):
            marker = self._item(
                marker_key(commit.key, event_id),
                fingerprint=fingerprint or None,
                expires_at=commit.marker_expiry,
            )
            transaction.save(marker, condition=FeatureItem.pk.does_not_exist())
        for event_id in under_plain_keys(commit):
            transaction.condition_check(
                self._item, plain_marker_key(commit.key, event_id), condition=FeatureItem.pk.does_not_exist()
            )

    def _committed(self, commit: Commit, version: Version) -> FeatureItem:
        return self._item(
            commit.key,
            state=commit.blob,
            birth=version.birth,
            number=version.n,
            applied_at=commit.applied_at,
            event_ids=msgspec.json.encode(commit.event_ids),
            filled_before=commit.filled_before,
            rebuilt=commit.rebuilt or None,
            left_out=commit.left_out or None,
            unsettled=msgspec.json.encode(commit.unsettled) if commit.unsettled else None,
            healing=commit.healing or None,
            expires_at=commit.expires_at,
        )

    def _cancelled(self, commit: Commit, error: TransactWriteError) -> Conflict | Duplicates:
        failed = [bool(r and r.code == CONDITION_FAILED) for r in error.cancellation_reasons]
        ambiguous = under_plain_keys(commit)  # pynamodb sends checks before puts
        checked, failed = failed[: len(ambiguous)], failed[len(ambiguous) :]
        ids = [*ambiguous, *commit.event_ids]
        known = frozenset(event for event, was in zip(ids, [*checked, *failed[1:]], strict=False) if was)
        if known:
            return Duplicates(known)
        contended = any(r and r.code == IN_CONFLICT for r in error.cancellation_reasons)
        if contended or any(failed[:1]):
            return Conflict(self.load([commit.key])[commit.key])
        raise StoreUnavailable(f"the transaction failed: {error.cause_response_code}") from error


class DynamoDecisionStore:
    """`DecisionStore` by pynamodb: the reference implementation, also used by tools and tests to read decisions.

    Items of synchronous views are in the table `synchronous`, or in `features`.
    """

    def __init__(
        self,
        features: str,
        decisions: str,
        pointer: Callable[[], tuple[str | None, Mapping[str, str] | None]],
        synchronous: str | None = None,
    ) -> None:
        self._features = DynamoFeatureStore(features)
        self._synchronous = DynamoFeatureStore(synchronous or features)
        self._item = bound(DecisionItem, decisions)
        self._pointer = pointer

    def read(self, keys: Sequence[str], timeout_s: float, synchronous: Sequence[str] = ()) -> Snapshot:
        reads = {**self._features.load(keys), **self._synchronous.load(synchronous)}
        return Snapshot(reads, *self._pointer())

    def record(
        self, decision: StoredDecision, timeout_s: float, commits: Sequence[Commit] = ()
    ) -> StoredDecision | Contended | None:
        try:
            if not commits:
                self._decision_item(decision).save(condition=DecisionItem.pk.does_not_exist())
            else:
                self._transact(decision, commits)
        except (PutError, TransactWriteError) as error:
            return self._existing(decision, commits, error)
        return None

    def _transact(self, decision: StoredDecision, commits: Sequence[Commit]) -> None:
        with TransactWrite(connection=_connection()) as transaction:
            transaction.save(self._decision_item(decision), condition=DecisionItem.pk.does_not_exist())
            for commit in commits:
                self._synchronous.add(commit, next_version(commit.seen, time.time_ns()), transaction)

    def _existing(
        self, decision: StoredDecision, commits: Sequence[Commit], error: PutError | TransactWriteError
    ) -> StoredDecision | Contended | None:
        """The stored decision if it exists, else the items that another writer changed first."""
        codes = _codes(error)
        if codes[0] == CONDITION_FAILED:
            stored = self.get(decision.id)
            if stored is None:
                raise StoreUnavailable("the existing decision has expired meanwhile") from error
            # A resent write whose first response was lost finds its own record.
            return None if stored.record == decision.record else stored
        if not {CONDITION_FAILED, IN_CONFLICT}.intersection(codes):
            raise StoreUnavailable(f"the decision was not written: {error.cause_response_code}") from error
        return Contended(self._synchronous.load([commit.key for commit in commits]))

    def _decision_item(self, decision: StoredDecision) -> DecisionItem:
        return self._item(
            decision.id,
            merchant_id=decision.merchant_id,
            fingerprint=decision.fingerprint,
            record=decision.record,
            answer=decision.answer,
            q=decision.q,
            expires_at=decision.expires_at,
        )

    def get(self, decision_id: str) -> StoredDecision | None:
        """The stored decision, or None."""
        return _get(self._item, decision_id)

    def get_many(self, decision_ids: Sequence[str]) -> dict[str, StoredDecision]:
        """Stored decisions by id, without ids that do not exist."""
        return {item.pk: _stored(item) for item in self._item.batch_get(decision_ids, consistent_read=True)}


class DecisionReader:
    """Read-only access to decisions by id."""

    def __init__(self, table: str) -> None:
        self._item = bound(DecisionItem, table)

    def get(self, decision_id: str) -> StoredDecision | None:
        """The stored decision, or None. Raises `StoreUnavailable`."""
        return _get(self._item, decision_id)

    def get_many(self, decision_ids: Sequence[str]) -> dict[str, StoredDecision]:
        """Stored decisions by id; ids that are not stored are left out."""
        return {item.pk: _stored(item) for item in self._item.batch_get(decision_ids, consistent_read=True)}


def _get(table: type[DecisionItem], decision_id: str) -> StoredDecision | None:
    try:
        item = table.get(decision_id, consistent_read=True)
    except DoesNotExist:
        return None
    except PynamoDBException as error:
        raise StoreUnavailable(f"the decision could not be read: {error.cause_response_code}") from error
    return _stored(item)


def _claim_action(table: str, commit: Commit, event_id: str, fingerprint: int) -> dict[str, Any]:
    """Action of a transaction that writes a marker, unless another writer has."""
    marker = {
        layout.KEY: {"S": marker_key(commit.key, event_id)},
        layout.CLAIMANT: {"S": commit.claimant},
        layout.EXPIRES_AT: {"N": str(commit.marker_expiry)},
    }
    if fingerprint:
        marker[layout.FINGERPRINT] = {"N": str(fingerprint)}
    return {
        "Put": {
            "TableName": table,
            "Item": marker,
            "ConditionExpression": f"attribute_not_exists({layout.KEY}) OR {layout.CLAIMANT} = :claimant",
            "ExpressionAttributeValues": {":claimant": {"S": commit.claimant}},
        }
    }


def _codes(error: PutError | TransactWriteError) -> list[str | None]:
    """Error codes of a failed write, one per part; None for parts without an error."""
    if isinstance(error, TransactWriteError) and error.cancellation_reasons:
        return [reason.code if reason else None for reason in error.cancellation_reasons]
    return [(error.cause_response_code or "").removesuffix("Exception")]


def _unchanged(seen: Version | None) -> Condition:
    if seen is None:
        return FeatureItem.pk.does_not_exist()
    same: Condition = (FeatureItem.birth == seen.birth) & (FeatureItem.number == seen.n)
    return same


def _read(item: FeatureItem) -> Read:
    return Read("present", item.state, Version(int(item.birth), int(item.number)))


def _stored(item: DecisionItem) -> StoredDecision:
    return StoredDecision(
        item.pk,
        item.merchant_id,
        item.fingerprint,
        item.record,
        item.answer,
        int(item.q),
        int(item.expires_at),
    )


@lru_cache(maxsize=1)
def _connection() -> Connection:
    """Shared connection for transactions."""
    return Connection(
        connect_timeout_seconds=CONNECT_TIMEOUT_S,
        read_timeout_seconds=READ_TIMEOUT_S,
        max_retry_attempts=ATTEMPTS,
    )
