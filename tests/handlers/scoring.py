"""Sandboxes of the scorer, with tables, bucket and secret on moto."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from candor.model.bundle import Bundle
from tests.handlers.checkouts import checkout
from tests.handlers.lambdas import context, create_table, load, proxied
from tests.moto_server import moto_server

AUTHORIZER = {"merchant_id": "mer_1", "livemode": "false"}


@contextmanager
def standing(bundle: Bundle) -> Iterator[tuple[str, dict[str, str]]]:
    """moto's address, and the template's environment of the scorer there, with this champion."""
    with moto_server() as url, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        for table in ("features", "synchronous", "decisions", "registry"):
            create_table(table)
        secrets = boto3.client("secretsmanager")
        secret = secrets.create_secret(Name="decision-key", SecretString="s3cret")["ARN"]
        boto3.client("s3").create_bucket(Bucket="bundles")
        store_bundle(bundle.sha, bundle.to_bytes())
        point_at(bundle.sha)
        yield (
            url,
            {
                "FEATURES_TABLE": "features",
                "SYNCHRONOUS_TABLE": "synchronous",
                "DECISIONS_TABLE": "decisions",
                "REGISTRY_TABLE": "registry",
                "BUNDLES_BUCKET": "bundles",
                "DECISION_KEY_SECRET": secret,
                "REPLAY_CLOCK": "refused",
                "DEADLINE_MS": "20000",
                "DECISION_RETENTION_DAYS": "90",
                "REDELIVERY_HORIZON_DAYS": "20",
            },
        )


def store_bundle(sha: str, data: bytes) -> None:
    s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    s3.put_object(Bucket="bundles", Key=f"bundles/{sha}.json", Body=data)


def point_at(sha: str) -> None:
    boto3.client("dynamodb").put_item(
        TableName="registry", Item={"pk": {"S": "champion"}, "bundle": {"S": sha}, "promoted_at": {"N": "1"}}
    )


class Scorer:
    """One sandbox: the module as Lambda loads it, and its connections, closed at the end."""

    def __init__(self, environment: dict[str, str], **changes: str) -> None:
        self._monkeypatch = pytest.MonkeyPatch()
        self.module = load("score", self._monkeypatch, environment | changes)

    def __call__(self, body: Any = None, key: str | None = "k1", **headers: str) -> dict[str, Any]:
        sent = headers if key is None else {"Idempotency-Key": key, **headers}
        event = proxied(checkout(token=f"cus_of_{key}") if body is None else body, sent, **AUTHORIZER)
        return self.handle(event)

    def handle(self, event: dict[str, Any]) -> dict[str, Any]:
        return self.module.handler(event, context("score"))

    def close(self) -> None:
        self.module.SCORER.close()
        self._monkeypatch.undo()


def recorded(answer: dict[str, Any]) -> dict[str, Any]:
    """The stored record of an answer, whose bytes are stored with it."""
    pk = json.loads(answer["body"])["id"]
    item = boto3.client("dynamodb").get_item(TableName="decisions", Key={"pk": {"S": pk}})["Item"]
    assert item["a"]["B"] == answer["body"].encode()
    return json.loads(item["r"]["B"])
