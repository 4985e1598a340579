"""The scorer's store: one BatchGetItem and one conditional PutItem, through the lean client."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec

from candor.clock import Deadline
from candor.errors import StoreUnavailable
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version
from candor.store.lean import Credentials, Request, SignedClient
from candor.store.protocol import Snapshot, StoredDecision

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

Item = Mapping[str, Mapping[str, Any]]


class HotStore:
    """Reads items and the champion pointer, writes decision records. Not thread-safe."""

    def __init__(
        self, *, region: str, features: str, decisions: str, registry: str, credentials: Credentials
    ) -> None:
        self._client = SignedClient("dynamodb", region, credentials)
        self._features = features
        self._decisions = decisions
        self._registry = registry

    def read(self, keys: Sequence[str], timeout_s: float) -> Snapshot:
        deadline = Deadline(timeout_s)
        reads: dict[str, Read] = dict.fromkeys(keys, UNAVAILABLE)
        champion = None
        wanted: dict[str, Any] = {
            self._features: {"Keys": [_key(key) for key in keys], "ProjectionExpression": "pk,b,vb,vn"},
            self._registry: {"Keys": [_key(CHAMPION)]},
        }
        if not keys:
            del wanted[self._features]
        for _ in range(_ROUNDS):
            try:
                answer = self._call("BatchGetItem", {"RequestItems": wanted}, deadline)
            except StoreUnavailable:
                break
            unprocessed = answer.get("UnprocessedKeys") or {}
            reads |= dict.fromkeys(_pks(wanted, self._features) - _pks(unprocessed, self._features), ABSENT)
            for item in answer["Responses"].get(self._features, ()):
                reads[item["pk"]["S"]] = read_of(item)
            for item in answer["Responses"].get(self._registry, ()):
                champion = item["bundle"]["S"]
            wanted = unprocessed
            if not wanted:
                break
        return Snapshot(reads, champion)

    def record(self, decision: StoredDecision, timeout_s: float) -> StoredDecision | None:
        try:
            self._call(
                "PutItem",
                {
                    "TableName": self._decisions,
                    "Item": _decision_item(decision),
                    "ConditionExpression": "attribute_not_exists(pk)",
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                },
                Deadline(timeout_s),
            )
        except _ConditionFailed as failed:
            stored = _stored_decision(failed.item)
            # A write whose answer was lost is sent again and then meets itself.
            return None if stored.record == decision.record else stored
        return None

    def _call(self, operation: str, body: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """One operation, sent again within the deadline while DynamoDB throttles or fails inside."""
        payload = msgspec.json.encode(body)
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "x-amz-target": f"DynamoDB_20120810.{operation}",
        }
        request = Request("POST", "/", headers, payload)
        for attempt in range(_ATTEMPTS):
            status, found = self._client.request(request, deadline.remaining())
            answer = _json(operation, status, found)
            if status == 200:
                return answer
            kind = str(answer.get("__type", "")).rpartition("#")[2]
            if kind == "ConditionalCheckFailedException":
                raise _ConditionFailed(answer["Item"])
            if not kind.startswith(_RETRYABLE) or attempt == _ATTEMPTS - 1:
                raise StoreUnavailable(f"dynamodb {operation}: {status} {kind}")
        raise AssertionError("unreachable")


def _json(operation: str, status: int, found: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(found, type=dict[str, Any])
    except msgspec.DecodeError as error:  # something between here and DynamoDB answered
        raise StoreUnavailable(f"dynamodb {operation}: {status}, not JSON") from error


class _ConditionFailed(Exception):
    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item = item


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
    return str(msgspec.json.decode(answer.body)["SecretString"]).encode()


def read_of(item: Item) -> Read:
    """A feature item as DynamoDB's JSON → Read."""
    version = Version(int(item["vb"]["N"]), int(item["vn"]["N"]))
    return Read("present", b64decode(item["b"]["B"]), version)


def _key(pk: str) -> dict[str, dict[str, str]]:
    return {"pk": {"S": pk}}


def _pks(request: Mapping[str, Any], table: str) -> set[str]:
    return {key["pk"]["S"] for key in request.get(table, {}).get("Keys", ())}


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
