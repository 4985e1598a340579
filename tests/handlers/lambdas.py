"""Loads handlers as Lambda does, and builds their events."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3

from tests.moto_lock import serialize_calls

serialize_calls()

REQUEST_ID = "req_test"
COMMON = {
    "STAGE": "test",
    "POWERTOOLS_METRICS_NAMESPACE": "Candor",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}


def load(name: str, monkeypatch: Any, environment: Mapping[str, str]) -> ModuleType:
    """The handler's module, imported afresh with its template's environment."""
    for variable, value in {**COMMON, "POWERTOOLS_SERVICE_NAME": name, **environment}.items():
        monkeypatch.setenv(variable, value)
    path = f"functions.{name}.handler"
    sys.modules.pop(path, None)
    return importlib.import_module(path)


class Ears:
    """All output of a handler: its log lines, its metrics, and its libraries' logs."""

    def __init__(self, module: ModuleType, monkeypatch: Any, capsys: Any, caplog: Any) -> None:
        caplog.set_level(logging.INFO)
        caplog.set_level(logging.ERROR, logger="werkzeug")  # moto's server, not the handler
        for handler in module.LOGGER.handlers if hasattr(module, "LOGGER") else ():
            monkeypatch.setattr(handler, "stream", sys.stdout)
        self._capsys, self._caplog = capsys, caplog

    def heard(self) -> str:
        """Output since the last call."""
        out, err = self._capsys.readouterr()
        logged = self._caplog.text
        self._caplog.clear()
        return f"{out}{err}{logged}"


def context(name: str) -> SimpleNamespace:
    """Lambda's context, as far as Powertools reads it."""
    return SimpleNamespace(
        function_name=name,
        memory_limit_in_mb=512,
        invoked_function_arn=f"arn:aws:lambda:us-east-1:123456789012:function:{name}",
        aws_request_id=REQUEST_ID,
    )


def proxied(body: Any, headers: Mapping[str, str] | None = None, **authorizer: str) -> dict[str, Any]:
    """API Gateway's proxy event; a body that is no text is sent as JSON."""
    return {
        "resource": "/v1/any",
        "httpMethod": "POST",
        "headers": {"Content-Type": "application/json", **(headers or {})},
        "body": body if isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
        "requestContext": {"requestId": REQUEST_ID, "authorizer": dict(authorizer)},
    }


def problem(answer: Mapping[str, Any]) -> tuple[int, str, str | None]:
    """Status, code and field of a problem+json answer; fails where it is not one, or its faults disagree with it."""
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    body = json.loads(answer["body"])
    first = {name: body[name] for name in ("code", "field", "detail")}
    of_the_body = body["status"] == 422 and body["code"] != "idempotency_key_reused"
    assert body.pop("errors", [None])[0] == (first if of_the_body else None)
    assert body.keys() == {"type", "title", "status", "detail", "code", "field", "request_id"}
    assert body["status"] == answer["statusCode"]
    assert body["request_id"] == REQUEST_ID
    assert body["type"].endswith(body["code"])
    return body["status"], body["code"], body["field"]


def create_table(name: str, stream: str | None = None) -> str:
    """A table of the storage stack's shape, one string key; the ARN of its stream if `stream` says what it shows."""
    settings = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": stream}} if stream else {}
    table = boto3.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        **settings,
    )
    return str(table["TableDescription"].get("LatestStreamArn", ""))


@cache
def _queues(_endpoint: str | None) -> Any:
    """A client for each address: one that was made beside a moto server keeps that server's."""
    return boto3.client("sqs")


def drain(queue_url: str) -> list[dict[str, Any]]:
    """All messages of a queue, which is empty then."""
    sqs, received = _queues(os.environ.get("AWS_ENDPOINT_URL")), []
    wanted = {"QueueUrl": queue_url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
    while messages := sqs.receive_message(**wanted).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        received += messages
    return received
