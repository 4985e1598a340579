"""The scorer's store: one BatchGetItem and one conditional write, through the signed client.

The write is a PutItem of the decision record, or one TransactWriteItems of the record and the synchronous items.
"""

from __future__ import annotations

import random
import time
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any

import msgspec

from candor.clock import Deadline
from candor.errors import StoreUnavailable
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version
from candor.store import layout
from candor.store.protocol import (
    Challenger,
    Commit,
    Contended,
    Snapshot,
    StoredDecision,
    marked,
    marker_key,
    next_version,
    plain_marker_key,
    under_plain_keys,
)
from candor.store.signed.client import AwsRequest, Credentials, SignedClient

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
"""Largest number of calls for unprocessed keys: more would add load to a throttling table."""

_PAUSE_S = 0.005
"""Longest first wait (s) before a retry; doubled each turn."""

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""Exceptions of reading a value of an unexpected shape."""

_CONDITION_FAILED = "ConditionalCheckFailed"
_IN_CONFLICT = "TransactionConflict"

_UNREADABLE = (msgspec.DecodeError, UnicodeEncodeError, TypeError)
"""Exceptions of decoding external text, unpaired surrogates included."""

_NEW = f"attribute_not_exists({layout.KEY})"
_UNCHANGED = f"{layout.BIRTH} = :b AND {layout.NUMBER} = :n"
"""Conditions of a write: no item has the key; the item has the version seen."""

_READ = f"{layout.KEY},{layout.STATE},{layout.BIRTH},{layout.NUMBER}".encode()
"""Attributes of feature items that the scorer reads."""

_FIRST_KEY, _NEXT_KEY = f'[{{"{layout.KEY}":{{"S":'.encode(), f'}}}},{{"{layout.KEY}":{{"S":'.encode()

_HEADERS = {
    operation: {
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": f"DynamoDB_20120810.{operation}",
    }
    for operation in ("BatchGetItem", "PutItem", "TransactWriteItems")
}


class _Text(msgspec.Struct):
    """A string attribute."""

    S: str


class _StoredItem(msgspec.Struct):
    """An item of any table, as far as the scorer reads it. Only its key is required."""

    key: _Text = msgspec.field(name=layout.KEY)
    state: dict[str, Any] = msgspec.field(name=layout.STATE, default_factory=dict)
    birth: dict[str, Any] = msgspec.field(name=layout.BIRTH, default_factory=dict)
    number: dict[str, Any] = msgspec.field(name=layout.NUMBER, default_factory=dict)
    bundle: dict[str, Any] = {}
    views: dict[str, Any] = {}
    challenger: dict[str, Any] = {}


class _BatchResponse(msgspec.Struct):
    """Response of BatchGetItem."""

    Responses: dict[str, list[_StoredItem]]
    UnprocessedKeys: dict[str, dict[str, Any]] | None = None


_RawItem = Mapping[str, Mapping[str, Any]]
"""The existing item of a failed condition, as DynamoDB returns it."""

_BATCH = msgspec.json.Decoder(_BatchResponse)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_VIEWS = msgspec.json.Decoder(dict[str, str])
_CHALLENGER = msgspec.json.Decoder(Challenger | None)
_ENCODE = msgspec.json.Encoder().encode


class ScorerStore:
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
        self._pointer_keys = b'%b:{"Keys":%b}' % (_ENCODE(registry), _keys([CHAMPION]))

    def renew(self, credentials: Credentials) -> None:
        """Switch to new credentials and a new connection."""
        self._client.renew(credentials)

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._client.close()

    def read(self, keys: Sequence[str], timeout_s: float, synchronous: Sequence[str] = ()) -> Snapshot:
        deadline = Deadline(timeout_s)
        reads: dict[str, Read] = dict.fromkeys([*keys, *synchronous], UNAVAILABLE)
        pointer: _StoredItem | None = None
        pending, payload = set(reads), self._read_body(keys, synchronous)
        for turn in range(_ROUNDS):
            _pause(turn, deadline)
            try:
                answer = _batch(self._call("BatchGetItem", payload, deadline))
            except StoreUnavailable:
                break
            unprocessed = answer.UnprocessedKeys
            left = _pks(unprocessed) if unprocessed else set()
            reads |= dict.fromkeys(pending - left, ABSENT)
            for table in (self._features, self._synchronous):
                for item in answer.Responses.get(table, ()):
                    reads[item.key.S] = read_of(item)
            for item in answer.Responses.get(self._registry, ()):
                pointer = item
            if not unprocessed:
                break
            pending, payload = pending & left, _ENCODE({"RequestItems": unprocessed})
        return Snapshot(reads, *_pointed(pointer))

    def _read_body(self, keys: Sequence[str], synchronous: Sequence[str]) -> bytes:
        """Request body of BatchGetItem: the pointer, and items of both tables."""
        parts = [self._pointer_keys]
        if keys:
            parts.append(_items(self._features, keys, strongly=False))
        if synchronous:
            parts.append(_items(self._synchronous, synchronous, strongly=True))
        return b'{"RequestItems":{%b}}' % b",".join(parts)

    def record(
        self, decision: StoredDecision, timeout_s: float, commits: Sequence[Commit] = ()
    ) -> StoredDecision | Contended | None:
        puts = [_put_new(self._decisions, _decision_item(decision))]
        puts += [put for commit in commits for put in self._puts(commit)]
        checks = [check for commit in commits for check in self._checks(commit)]
        deadline = Deadline(timeout_s)
        try:
            if commits:
                body = {"TransactItems": [*({"Put": put} for put in puts), *checks]}
                operation, payload = "TransactWriteItems", _ENCODE(body)
            else:
                operation, payload = "PutItem", _ENCODE(puts[0])
            answer = self._call(operation, payload, deadline)
            if answer != b"{}":
                _json(operation, 200, answer)
        except _Refused as refused:
            try:
                return _existing(decision, puts, refused)
            except _MALFORMED as error:
                raise StoreUnavailable(
                    "dynamodb: a write was refused, and the existing item cannot be read"
                ) from error
        return None

    def _puts(self, commit: Commit) -> Iterator[dict[str, Any]]:
        """Puts of the item, conditional on the version seen, and of its markers."""
        item = _feature_item(commit)
        if commit.seen is None:
            yield _put_new(self._synchronous, item)
        else:
            seen = {":b": {"N": str(commit.seen.birth)}, ":n": {"N": str(commit.seen.n)}}
            yield {
                **_put_new(self._synchronous, item),
                "ConditionExpression": _UNCHANGED,
                "ExpressionAttributeValues": seen,
            }
        for event_id, fingerprint in marked(commit):
            marker = {
                **_key(marker_key(commit.key, event_id)),
                **({layout.FINGERPRINT: {"N": str(fingerprint)}} if fingerprint else {}),
                layout.EXPIRES_AT: {"N": str(commit.marker_expiry)},
            }
            yield _put_new(self._synchronous, marker)

    def _checks(self, commit: Commit) -> Iterator[dict[str, Any]]:
        """Checks that no marker exists under a plain key."""
        for event_id in under_plain_keys(commit):
            check = {
                "TableName": self._synchronous,
                "Key": _key(plain_marker_key(commit.key, event_id)),
                "ConditionExpression": _NEW,
            }
            yield {"ConditionCheck": check}

    def _call(self, operation: str, payload: bytes, deadline: Deadline) -> bytes:
        """One operation, retried within the deadline on throttling and internal errors."""
        request = AwsRequest("POST", "/", _HEADERS[operation], payload)
        for attempt in range(_ATTEMPTS):
            _pause(attempt, deadline)
            status, body, _ = self._client.request(request, deadline.remaining())
            if status == 200:
                return body
            answer = _json(operation, status, body)
            kind = str(answer.get("__type", "")).rpartition("#")[2]
            if kind == "ConditionalCheckFailedException":
                raise _Refused([{"Code": _CONDITION_FAILED, "Item": answer.get("Item")}])
            if kind == "TransactionCanceledException":
                raise _Refused(answer.get("CancellationReasons") or ())
            if not kind.startswith(_RETRYABLE) or attempt == _ATTEMPTS - 1:
                raise StoreUnavailable(f"dynamodb {operation}: {status} {kind}")
        raise AssertionError("unreachable")


def _batch(answer: bytes) -> _BatchResponse:
    """Decode BatchGetItem's response. Raises `StoreUnavailable` unless every item has its key."""
    try:
        return _BATCH.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreUnavailable("dynamodb BatchGetItem: an answer of another shape") from error


def _pause(turn: int, deadline: Deadline) -> None:
    """Wait a random time before every turn but the first."""
    if turn:
        time.sleep(min(_PAUSE_S * 2**turn * random.random(), deadline.remaining()))  # noqa: S311 - no secret


def _json(operation: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        return _OBJECT.decode(body)
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:  # a proxy answered instead of DynamoDB
        raise StoreUnavailable(f"dynamodb {operation}: {status}, not JSON") from error


class _Refused(Exception):
    """Nothing was written; `reasons` has one entry per put: its code, and the existing item."""

    def __init__(self, reasons: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.reasons = reasons


def _existing(
    decision: StoredDecision, puts: Sequence[Mapping[str, Any]], refused: _Refused
) -> StoredDecision | Contended | None:
    """The stored decision if it exists, else the items that another writer changed first."""
    codes = {reason["Code"] for reason in refused.reasons}
    if refused.reasons[0]["Code"] == _CONDITION_FAILED:
        stored = _stored_decision(refused.reasons[0]["Item"])
        # A resent write whose first response was lost finds its own record.
        return None if stored.record == decision.record else stored
    if not codes & {_CONDITION_FAILED, _IN_CONFLICT}:
        raise StoreUnavailable(f"dynamodb TransactWriteItems: {', '.join(sorted(codes))}") from refused
    items = [
        (put["Item"][layout.KEY]["S"], reason.get("Item"))
        for put, reason in zip(puts, refused.reasons, strict=False)  # the checks of markers follow the puts
        # An existing marker does not return its item.
        if reason["Code"] == _CONDITION_FAILED and layout.STATE in put["Item"]
    ]
    return Contended({key: ABSENT if item is None else _read_existing(item) for key, item in items})


class BundleSource:
    """Bundles by name from the bundles bucket."""

    def __init__(self, *, region: str, bucket: str, credentials: Credentials) -> None:
        self._client = SignedClient("s3", region, credentials)
        self._bucket = bucket

    def renew(self, credentials: Credentials) -> None:
        """Switch to new credentials and a new connection."""
        self._client.renew(credentials)

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._client.close()

    def load(self, sha: str, timeout_s: float) -> bytes:
        """Bytes of the bundle within `timeout_s`. Raises `StoreUnavailable`."""
        answer = self._client.request(AwsRequest("GET", f"/{self._bucket}/bundles/{sha}.json", {}), timeout_s)
        if answer.status != 200:
            raise StoreUnavailable(f"s3: bundle {sha[:12]} answers {answer.status}")
        return answer.body


def read_secret(secret_id: str, region: str, credentials: Credentials) -> bytes:
    """The secret's text, once at cold start. Raises `StoreUnavailable`."""
    client = SignedClient("secretsmanager", region, credentials)
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.GetSecretValue"}
    request = AwsRequest("POST", "/", headers, msgspec.json.encode({"SecretId": secret_id}))
    with closing(client):
        answer = client.request(request, _SECRET_TIMEOUT_S)
    if answer.status != 200:
        raise StoreUnavailable(f"secretsmanager answers {answer.status}")
    try:
        return str(msgspec.json.decode(answer.body)["SecretString"]).encode()
    except _MALFORMED as error:
        raise StoreUnavailable("secretsmanager: the answer holds no secret text") from error


def _pointed(item: _StoredItem | None) -> tuple[str | None, Mapping[str, str] | None, Challenger | None]:
    """The pointer's bundle, views and challenger; all None if it cannot be read, so that nothing changes."""
    if item is None:
        return None, None, None
    try:
        views, challenger = _decode_pointer(item.views.get("S", "{}"), item.challenger.get("S", "null"))
    except _UNREADABLE:
        return None, None, None
    return item.bundle.get("S"), views, challenger


@lru_cache(maxsize=4)
def _decode_pointer(views: str, challenger: str) -> tuple[Mapping[str, str], Challenger | None]:
    """Decode the pointer's texts, cached while they do not change."""
    return _VIEWS.decode(views), _CHALLENGER.decode(challenger)


def read_of(item: _StoredItem) -> Read:
    """A feature item → Read; an incomplete item is unavailable, never absent."""
    try:
        return Read(
            "present", a2b_base64(item.state["B"]), Version(int(item.birth["N"]), int(item.number["N"]))
        )
    except _MALFORMED:
        return UNAVAILABLE


def _read_existing(item: _RawItem) -> Read:
    """The existing feature item of a failed condition → Read."""
    try:
        return read_of(msgspec.convert(item, _StoredItem))
    except msgspec.ValidationError:
        return UNAVAILABLE


def _key(pk: str) -> dict[str, dict[str, str]]:
    return {layout.KEY: {"S": pk}}


def _keys(pks: Iterable[str]) -> bytes:
    """Keys as DynamoDB's JSON, at half the cost of encoding nested dictionaries."""
    return _FIRST_KEY + _NEXT_KEY.join(map(_ENCODE, pks)) + b"}}]"


def _items(table: str, keys: Sequence[str], *, strongly: bool) -> bytes:
    """BatchGetItem's request for one table of feature items."""
    return b'%b:{"Keys":%b,"ProjectionExpression":"%b","ConsistentRead":%b}' % (
        _ENCODE(table),
        _keys(keys),
        _READ,
        b"true" if strongly else b"false",
    )


def _put_new(table: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """A put that fails if the key exists, and then returns the existing item."""
    return {
        "TableName": table,
        "Item": item,
        "ConditionExpression": _NEW,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _pks(unprocessed: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Unprocessed keys of all tables."""
    return {key[layout.KEY]["S"] for of in unprocessed.values() for key in of.get("Keys", ())}


def _feature_item(commit: Commit) -> dict[str, dict[str, str | bytes]]:
    """The feature item that a commit writes."""
    version = next_version(commit.seen, time.time_ns())
    return {
        layout.KEY: {"S": commit.key},
        layout.STATE: {"B": commit.blob},
        layout.BIRTH: {"N": str(version.birth)},
        layout.NUMBER: {"N": str(version.n)},
        layout.APPLIED_AT: {"N": str(commit.applied_at)},
        layout.EVENT_IDS: {"B": _ENCODE(commit.event_ids)},
        **({} if commit.expires_at is None else {layout.EXPIRES_AT: {"N": str(commit.expires_at)}}),
    }


def _decision_item(decision: StoredDecision) -> dict[str, dict[str, str | bytes]]:
    return {
        layout.KEY: {"S": decision.id},
        layout.MERCHANT: {"S": decision.merchant_id},
        layout.REQUEST: {"S": decision.fingerprint},
        layout.RECORD: {"B": decision.record},
        layout.ANSWER: {"B": decision.answer},
        layout.MOMENT: {"N": str(decision.q)},
        layout.EXPIRES_AT: {"N": str(decision.expires_at)},
    }


def _stored_decision(item: _RawItem) -> StoredDecision:
    return StoredDecision(
        id=item[layout.KEY]["S"],
        merchant_id=item[layout.MERCHANT]["S"],
        fingerprint=item[layout.REQUEST]["S"],
        record=a2b_base64(item[layout.RECORD]["B"]),
        answer=a2b_base64(item[layout.ANSWER]["B"]),
        q=int(item[layout.MOMENT]["N"]),
        expires_at=int(item[layout.EXPIRES_AT]["N"]),
    )
