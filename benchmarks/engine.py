"""A DynamoDB of the benchmark's own: dynoxide with one table of features, and stores on it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from candor.store.dynamodb import DynamoFeatureStore
from local.aws.dynoxide import Dynoxide, supported
from local.errors import LocalError

TABLE = "features"
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def own_engine() -> Iterator[str]:
    """Address of a running engine with an empty table; this process and its children speak to it from now on."""
    if not supported():
        raise SystemExit("dynoxide is published for Linux on x86-64 alone: run this there, or without it")
    with tempfile.TemporaryDirectory() as folder:
        try:
            engine = Dynoxide(Path(folder) / "tables.db", Path(folder) / "log")
        except LocalError as error:
            raise SystemExit(str(error)) from error
        try:
            os.environ |= {**ACCOUNT, "AWS_ENDPOINT_URL_DYNAMODB": engine.url}
            _create_table()
            yield engine.url
        finally:
            engine.close()


def _create_table() -> None:
    boto3.client("dynamodb").create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )


def store() -> DynamoFeatureStore:
    """The store on the engine that runs."""
    return DynamoFeatureStore(TABLE)
