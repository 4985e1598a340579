"""The scorer's store: one BatchGetItem and one conditional write, through the lean client.

The write is a PutItem of the decision record, or one TransactWriteItems of the record and the synchronous items.
"""

from __future__ import annotations

import random
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec

from candor.clock import Deadline
from candor.errors import StoreUnavailable
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version
from candor.store.lean import Credentials, Request, SignedClient
from candor.store.protocol import (
    Challenger,
    Commit,
    Contended,
    Snapshot,
    StoredDecision,
    marker_key,
    next_version,
)

CHAMPION = "champion"
_RETRYABLE = (
    "ProvisionedThroughputExceeded",
    "ThrottlingException",
    "InternalServerError",
    "RequestLimitExceeded",
)
_SECRET_TIMEOUT_S = 2.0
_ATTEMPTS = 2
_ROUNDS = 3
"""Calls for keys that come back unprocessed: more would only press on a table that throttles."""

_PAUSE_S = 0.005
"""Longest wait before a table that throttles is asked again; it doubles with every turn."""

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What reading something raises that has not the shape it must have."""

_CONDITION_FAILED = "ConditionalCheckFailed"
_IN_CONFLICT = "TransactionConflict"

Item = Mapping[str, Mapping[str, Any]]


class _Batch(msgspec.Struct):
    """What BatchGetItem answers."""

    Responses: dict[str, list[dict[str, dict[str, Any]]]]
    UnprocessedKeys: dict[str, dict[str, Any]] | None = None


class HotStore:
    """Reads items and the champion pointer, writes decisions and synchronous items. Not thread-safe."""

    def __init__(
        self,
        *,
        region: str,
        features: str,
        synchronous: str,
        decisions: str,
        registry: str,
        credentials: Credentials,
    ) -> None:
        self._client = SignedClient("dynamodb", region, credentials)
        self._features = features
        self._synchronous = synchronous
        self._decisions = decisions
        self._registry = registry

    def read(self, keys: Sequence[str], timeout_s: float, synchronous: Sequence[str] = ()) -> Snapshot:
        deadline = Deadline(timeout_s)
        reads: dict[str, Read] = dict.fromkeys([*keys, *synchronous], UNAVAILABLE)
        pointer: Item | None = None
        wanted: dict[str, Any] = {self._registry: {"Keys": [_key(CHAMPION)]}}
        if keys:
            wanted[self._features] = _items(keys, strongly=False)
        if synchronous:
            wanted[self._synchronous] = _items(synchronous, strongly=True)
        for turn in range(_ROUNDS):
            _pause(turn, deadline)
            try:
                answer = _batch(self._call("BatchGetItem", {"RequestItems": wanted}, deadline))
            except StoreUnavailable:
                break
            unprocessed = answer.UnprocessedKeys or {}
            for table in (self._features, self._synchronous):
                reads |= dict.fromkeys(_pks(wanted, table) - _pks(unprocessed, table), ABSENT)
                reads |= {item["pk"]["S"]: read_of(item) for item in answer.Responses.get(table, ())}
            for item in answer.Responses.get(self._registry, ()):
                pointer = item
            wanted = unprocessed
            if not wanted:
                break
        return Snapshot(reads, *_pointed(pointer))

    def record(
        self, decision: StoredDecision, timeout_s: float, commits: Sequence[Commit] = ()
    ) -> StoredDecision | Contended | None:
        puts = [_put_new(self._decisions, _decision_item(decision))]
        puts += [put for commit in commits for put in self._puts(commit)]
        deadline = Deadline(timeout_s)
        try:
            if commits:
                body = {"TransactItems": [{"Put": put} for put in puts]}
                self._call("TransactWriteItems", body, deadline)
            else:
                self._call("PutItem", puts[0], deadline)
        except _Refused as refused:
            try:
                return _what_stood(decision, puts, refused)
            except _MALFORMED as error:
                raise StoreUnavailable(
                    "dynamodb: a write was refused, and what stands cannot be read"
                ) from error
        return None

    def _puts(self, commit: Commit) -> Iterator[dict[str, Any]]:
        """The item under the condition that it is as it was seen, and its markers."""
        item = _feature_item(commit)
        if commit.seen is None:
            yield _put_new(self._synchronous, item)
        else:
            seen = {":b": {"N": str(commit.seen.birth)}, ":n": {"N": str(commit.seen.n)}}
            yield {
                **_put_new(self._synchronous, item),
                "ConditionExpression": "vb = :b AND vn = :n",
                "ExpressionAttributeValues": seen,
            }
        if commit.marker_expiry is not None:
            expiry = {"N": str(commit.marker_expiry)}
            for event_id in commit.event_ids:
                marker = {**_key(marker_key(commit.key, event_id)), "ttl": expiry}
                yield _put_new(self._synchronous, marker)

    def _call(self, operation: str, body: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """One operation, sent again within the deadline while DynamoDB throttles or fails inside."""
        payload = msgspec.json.encode(body)
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "x-amz-target": f"DynamoDB_20120810.{operation}",
        }
        request = Request("POST", "/", headers, payload)
        for attempt in range(_ATTEMPTS):
            _pause(attempt, deadline)
            status, found = self._client.request(request, deadline.remaining())
            answer = _json(operation, status, found)
            if status == 200:
                return answer
            kind = str(answer.get("__type", "")).rpartition("#")[2]
            if kind == "ConditionalCheckFailedException":
                raise _Refused([{"Code": _CONDITION_FAILED, "Item": answer.get("Item")}])
            if kind == "TransactionCanceledException":
                raise _Refused(answer.get("CancellationReasons") or ())
            if not kind.startswith(_RETRYABLE) or attempt == _ATTEMPTS - 1:
                raise StoreUnavailable(f"dynamodb {operation}: {status} {kind}")
        raise AssertionError("unreachable")


def _batch(answer: Mapping[str, Any]) -> _Batch:
    """Raises `StoreUnavailable` unless every item has at least its key."""
    try:
        found = msgspec.convert(answer, _Batch)
    except msgspec.ValidationError as error:
        raise StoreUnavailable("dynamodb BatchGetItem: an answer of another shape") from error
    if not all("S" in item.get("pk", ()) for items in found.Responses.values() for item in items):
        raise StoreUnavailable("dynamodb BatchGetItem: an item without its key")
    return found


def _pause(turn: int, deadline: Deadline) -> None:
    """Wait a random while before every turn but the first."""
    if turn:
        time.sleep(min(_PAUSE_S * 2**turn * random.random(), deadline.remaining()))  # noqa: S311 - no secret


def _json(operation: str, status: int, found: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(found, type=dict[str, Any])
    except msgspec.DecodeError as error:  # something between here and DynamoDB answered
        raise StoreUnavailable(f"dynamodb {operation}: {status}, not JSON") from error


class _Refused(Exception):
    """Nothing was written; `reasons` say why, one for each put: its code, and the item that stood in the way."""

    def __init__(self, reasons: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.reasons = reasons


def _what_stood(
    decision: StoredDecision, puts: Sequence[Mapping[str, Any]], refused: _Refused
) -> StoredDecision | Contended | None:
    """The stored decision if there is one, else the items that someone else wrote first."""
    codes = {reason["Code"] for reason in refused.reasons}
    if refused.reasons[0]["Code"] == _CONDITION_FAILED:
        stored = _stored_decision(refused.reasons[0]["Item"])
        # A write whose answer was lost is sent again and then meets itself.
        return None if stored.record == decision.record else stored
    if not codes & {_CONDITION_FAILED, _IN_CONFLICT}:
        raise StoreUnavailable(f"dynamodb TransactWriteItems: {', '.join(sorted(codes))}") from refused
    items = [
        (put["Item"]["pk"]["S"], reason.get("Item"))
        for put, reason in zip(puts, refused.reasons, strict=True)
        # A marker in the way tells nothing of its item.
        if reason["Code"] == _CONDITION_FAILED and "b" in put["Item"]
    ]
    return Contended({key: ABSENT if item is None else read_of(item) for key, item in items})


class BundleSource:
    """Bundles by name from the bundles bucket."""

    def __init__(self, *, region: str, bucket: str, credentials: Credentials) -> None:
        self._client = SignedClient("s3", region, credentials)
        self._bucket = bucket

    def load(self, sha: str, timeout_s: float) -> bytes:
        """Bytes of the bundle within `timeout_s`. Raises `StoreUnavailable`."""
        answer = self._client.request(Request("GET", f"/{self._bucket}/bundles/{sha}.json", {}), timeout_s)
        if answer.status != 200:
            raise StoreUnavailable(f"s3: bundle {sha[:12]} answers {answer.status}")
        return answer.body


def read_secret(secret_id: str, region: str, credentials: Credentials) -> bytes:
    """The secret's text, once at cold start. Raises `StoreUnavailable`."""
    client = SignedClient("secretsmanager", region, credentials)
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.GetSecretValue"}
    request = Request("POST", "/", headers, msgspec.json.encode({"SecretId": secret_id}))
    with closing(client):
        answer = client.request(request, _SECRET_TIMEOUT_S)
    if answer.status != 200:
        raise StoreUnavailable(f"secretsmanager answers {answer.status}")
    try:
        return str(msgspec.json.decode(answer.body)["SecretString"]).encode()
    except _MALFORMED as error:
        raise StoreUnavailable("secretsmanager: the answer holds no secret text") from error


def _pointed(item: Item | None) -> tuple[str | None, Mapping[str, str] | None, Challenger | None]:
    """The pointer's bundle, views and challenger; one that cannot be read names nothing, so that all stays as it was."""
    if item is None:
        return None, None, None
    views = item.get("views", {}).get("S", "{}")
    challenger = item.get("challenger", {}).get("S", "null")
    try:
        return (
            item.get("bundle", {}).get("S"),
            msgspec.json.decode(views, type=dict[str, str]),
            msgspec.json.decode(challenger, type=Challenger | None),
        )
    except msgspec.DecodeError:
        return None, None, None


def read_of(item: Item) -> Read:
    """A feature item as DynamoDB's JSON → Read; one without its parts is unavailable, never absent."""
    try:
        version = Version(int(item["vb"]["N"]), int(item["vn"]["N"]))
        return Read("present", b64decode(item["b"]["B"]), version)
    except _MALFORMED:
        return UNAVAILABLE


def _key(pk: str) -> dict[str, dict[str, str]]:
    return {"pk": {"S": pk}}


def _items(keys: Sequence[str], *, strongly: bool) -> dict[str, Any]:
    """What BatchGetItem is asked of one table of items."""
    return {
        "Keys": [_key(key) for key in keys],
        "ProjectionExpression": "pk,b,vb,vn",
        "ConsistentRead": strongly,
    }


def _put_new(table: str, item: Item) -> dict[str, Any]:
    """A put that writes unless the key exists, and tells what stood there."""
    return {
        "TableName": table,
        "Item": item,
        "ConditionExpression": "attribute_not_exists(pk)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _pks(request: Mapping[str, Any], table: str) -> set[str]:
    return {key["pk"]["S"] for key in request.get(table, {}).get("Keys", ())}


def _feature_item(commit: Commit) -> dict[str, dict[str, str]]:
    """The layout of `FeatureItem` (candor/store/dynamodb.py)."""
    version = next_version(commit.seen, time.time_ns())
    return {
        "pk": {"S": commit.key},
        "b": {"B": b64encode(commit.blob).decode()},
        "vb": {"N": str(version.birth)},
        "vn": {"N": str(version.n)},
        "u": {"N": str(commit.applied_at)},
        "ids": {"B": b64encode(msgspec.json.encode(commit.event_ids)).decode()},
        "ttl": {"N": str(commit.expires_at)},
    }


def _decision_item(decision: StoredDecision) -> dict[str, dict[str, str]]:
    return {
        "pk": {"S": decision.id},
        "m": {"S": decision.merchant_id},
        "f": {"S": decision.fingerprint},
        "r": {"B": b64encode(decision.record).decode()},
        "a": {"B": b64encode(decision.answer).decode()},
        "q": {"N": str(decision.q)},
        "ttl": {"N": str(decision.expires_at)},
    }


def _stored_decision(item: Item) -> StoredDecision:
    return StoredDecision(
        id=item["pk"]["S"],
        merchant_id=item["m"]["S"],
        fingerprint=item["f"]["S"],
        record=b64decode(item["r"]["B"]),
        answer=b64decode(item["a"]["B"]),
        q=int(item["q"]["N"]),
        expires_at=int(item["ttl"]["N"]),
    )
