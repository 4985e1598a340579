"""Inputs of every row: models, a running stub with customers, and checkouts of these customers in turn."""

from __future__ import annotations

import http.client
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import boto3
import lightgbm
import numpy as np

from candor import EventType, FeatureView
from candor.clock import DAY
from candor.contracts import Application, Event, parse_checkout
from candor.features.vector import Read, Version, build, decode_items, item_keys
from candor.model.bundle import Bundle, Calibration
from candor.model.lightgbm_text import served
from candor.principal_reasons import reason_basis
from candor.reasons import Catalogue
from candor.store import layout
from candor.updates import Retention, prepare
from lender import DEFINITIONS, MONOTONE, REASONS, policy

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "benchmarks"
FEATURES = 120
ROWS = 3_000
TREES, LEAVES = 500, 63
CUSTOMERS = 500
"""Rows that rotate: a single row would train the branch predictor and cost less than half."""

GROUPS = tuple(f"view{place}" for place in range(4))
WIDTH = FEATURES // len(GROUPS)
HISTORY = 30
"""Most events of an entity in the last quarter; the fewest are half of it."""

BAD = {
    "loan.charged_off",
    "payment.due",
    "payment.failed",
    "payment.reversed",
    "account.flagged",
    "dispute.opened",
}
"""Event types that an approved customer has had none of lately."""

RETENTION = Retention(event_ids=20 * DAY)
SETTINGS = {
    "STAGE": "bench",
    "OMP_NUM_THREADS": "1",
    "FEATURES_TABLE": "features",
    "SYNCHRONOUS_TABLE": "synchronous",
    "DECISIONS_TABLE": "decisions",
    "REGISTRY_TABLE": "registry",
    "BUNDLES_BUCKET": "bundles",
    "DECISION_KEY_SECRET": "decision-key",
    "REPLAY_CLOCK": "refused",
    "DEADLINE_MS": "20000",
    "DECISION_RETENTION_DAYS": "90",
    "REDELIVERY_HORIZON_DAYS": "20",
}
"""The scorer's environment, as its template gives it."""


@dataclass(frozen=True)
class RequestWorld:
    """Running stub and the data of its rows; `environment` directs any AWS client to it."""

    environment: Mapping[str, str]
    port: int
    model: Path
    rows: np.ndarray
    bundle: Bundle


def packed_key(group: str, customer: int) -> str:
    """The key of one of a customer's four finished items."""
    return f"{group}@1#cus_{customer}"


def checkout(customer: int, total: int = 4_000) -> bytes:
    """Request body that every system receives."""
    body = {
        "checkout_id": f"chk_{customer}",
        "merchant_order_id": f"A-{customer}",
        "country": "US",
        "currency": "USD",
        "total": total,
        "items": [{"sku": "SKU-1", "category": "shoes", "unit_price": total, "qty": 1}],
        "applicant": {
            "token": f"cus_{customer}",
            "email_sha256": "0" * 64,
            "shipping_matches_billing": True,
        },
        "offer": {"product": "pay_in_4", "installments": 4, "period_days": 14, "finance_charge": 0},
        "device": {"fingerprint": f"dev_{customer}", "ip_prefix": "203.0.113.0/24", "session_age_s": 410},
    }
    return json.dumps(body).encode()


_NUMBERS = count()


def proxied(customer: int, total: int = 4_000) -> dict[str, Any]:
    """API Gateway event of the checkout, with a new Idempotency-Key each time."""
    return {
        "resource": "/v1/decisions",
        "httpMethod": "POST",
        "headers": {
            "Content-Type": "application/json",
            "Idempotency-Key": f"key-{next(_NUMBERS)}",
            "User-Agent": "shop/1.0",
            "Host": "api.example.com",
        },
        "body": checkout(customer, total).decode(),
        "isBase64Encoded": False,
        "requestContext": {
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "stage": "bench",
            "authorizer": {"merchant_id": "mer_1", "livemode": "false"},
        },
    }


@contextmanager
def world() -> Iterator[RequestWorld]:
    """Context manager: start the stub and fill it."""
    rows, tables = _rows(), _tiled()
    model = _model(rows, [f"f{place}" for place in range(FEATURES)])
    bundle = _bundle(tables)
    stub = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.request.stub"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert stub.stdout is not None
        port = int(stub.stdout.readline())
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_SESSION_TOKEN": "local",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PEER_MODEL": str(model),
        }
        os.environ |= environment
        _fill(rows[:CUSTOMERS], tables, bundle, port)
        yield RequestWorld(environment, port, model, rows[:CUSTOMERS], bundle)
    finally:
        stub.kill()
        stub.wait()


def _fill(rows: np.ndarray, tables: Mapping[str, Mapping[str, bytes]], bundle: Bundle, port: int) -> None:
    client = boto3.client("dynamodb")
    for table in ("features", "synchronous", "registry", "packed", "attributes"):
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        )
    client.put_item(
        TableName="registry",
        Item={"pk": {"S": "champion"}, "bundle": {"S": bundle.sha}, "views": {"S": "{}"}},
    )
    _write(client, "packed", _packed(rows))
    _write(client, "attributes", _attributes(rows))
    for table, blobs in tables.items():
        _write(client, table, [_item(key, blob) for key, blob in blobs.items()])
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"/bundles/bundles/{bundle.sha}.json", bundle.to_bytes())
    connection.getresponse().read()
    connection.close()


def _write(client: Any, table: str, items: Sequence[Mapping[str, Any]]) -> None:
    for start in range(0, len(items), 25):
        writes = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        client.batch_write_item(RequestItems={table: writes})


def _packed(rows: np.ndarray) -> list[dict[str, Any]]:
    return [
        _item(packed_key(group, customer), struct.pack(f"={WIDTH}d", *part))
        for customer, row in enumerate(rows)
        for group, part in zip(GROUPS, np.split(row, len(GROUPS)), strict=True)
    ]


def _item(key: str, blob: bytes) -> dict[str, Any]:
    return {
        layout.KEY: {"S": key},
        layout.STATE: {"B": blob},
        layout.BIRTH: {"N": str(time.time_ns())},
        layout.NUMBER: {"N": "7"},
    }


def _attributes(rows: np.ndarray) -> list[dict[str, Any]]:
    """The same four items with an attribute for each value; a missing one is left out."""
    return [
        {"pk": {"S": packed_key(group, customer)}}
        | {
            f"f{place * WIDTH + number}": {"N": repr(float(value))}
            for number, value in enumerate(row[place * WIDTH : (place + 1) * WIDTH])
            if not np.isnan(value)
        }
        for customer, row in enumerate(rows)
        for place, group in enumerate(GROUPS)
    ]


def _applications() -> list[Application]:
    return [Application(parse_checkout(checkout(customer)), "mer_1") for customer in range(CUSTOMERS)]


def _tiled() -> dict[str, dict[str, bytes]]:
    """The lender's own items by table and key, each after the events of a quarter; no two customers are alike."""
    now = int(time.time() * 1_000)
    tables: dict[str, dict[str, bytes]] = {"features": {}, "synchronous": {}}
    views = {view.name: view for view in DEFINITIONS.views}
    for application in _applications():
        for name, keys in item_keys(DEFINITIONS, application).items():
            table = tables["synchronous" if views[name].synchronous else "features"]
            table |= {key: _blob(views[name], key, now) for key in keys if key not in table}
    return tables


def _blob(view: FeatureView, key: str, now: int) -> bytes:
    """Blob of events until yesterday; of a view with bad event types only, until two years ago."""
    kinds = [kind for kind in view.events if kind.name not in BAD]
    last = now - DAY if kinds else now - 700 * DAY
    random = Random(key)
    moments = sorted(last - random.randrange(90 * DAY) for _ in range(random.randint(HISTORY // 2, HISTORY)))
    events = [
        _event(view, random.choice(kinds or view.events), f"{key}-{place}", at, random)
        for place, at in enumerate(moments)
    ]
    prepared = prepare(view, key, Read("absent"), events, now, RETENTION)
    assert prepared.commit is not None
    return prepared.commit.blob


def _event(view: FeatureView, kind: EventType, name: str, at: int, random: Random) -> Event:
    values: Mapping[str, Any] = {
        "money": random.randint(500, 2_000),
        "integer": random.randint(-3, 0),
        "text": f"t{random.randint(0, 5)}",
    }
    data = {field: values.get(of.kind) for field, of in kind.fields.items() if of.kind in values}
    if "currency" in data:
        data["currency"] = "USD"
    return Event(name, kind.name, at, {view.entity.name: "one"}, data)


def _vectors(tables: Mapping[str, Mapping[str, bytes]]) -> np.ndarray:
    """Feature vectors that the scorer computes from these items, a row per customer."""
    now = int(time.time() * 1_000)
    reads = {
        key: Read("present", blob, Version(1, 1)) for table in tables.values() for key, blob in table.items()
    }
    return np.array([_values(application, reads, now) for application in _applications()])


def _values(application: Application, reads: Mapping[str, Read], q: int) -> Sequence[float]:
    keys = item_keys(DEFINITIONS, application)
    own = {key: reads[key] for of_view in keys.values() for key in of_view}
    return build(DEFINITIONS, decode_items(DEFINITIONS, own, keys), keys, application.checkout, q).values


def _bundle(tables: Mapping[str, Mapping[str, bytes]]) -> Bundle:
    """A bundle of the lender's definitions whose cut-off approves; its model splits where the customers' values are."""
    columns = list(DEFINITIONS.features)
    random = np.random.default_rng(13)
    rows = np.column_stack([random.choice(column, size=ROWS) for column in _vectors(tables).T])
    return Bundle(
        model=served(_model(rows, columns).read_text(encoding="utf-8")),
        features=DEFINITIONS.features,
        definition_hash=DEFINITIONS.hash,
        calibration=Calibration(slope=1.0, intercept=0.0),
        cutoff=0.999_999,
        reason_reference=Catalogue(REASONS, columns).by_factor([0.0] * len(columns)),
        reason_basis=reason_basis(DEFINITIONS, MONOTONE, [0.0] * len(columns)),
        policy=policy(),
        reasons=tuple(REASONS),
        metrics={"auc": 0.7},
        lineage={"run": "bench"},
    )


def _rows() -> np.ndarray:
    random = np.random.default_rng(7)
    rows = random.normal(size=(ROWS, FEATURES))
    rows[random.random(rows.shape) < 0.1] = np.nan
    return rows


def _model(rows: np.ndarray, columns: Sequence[str]) -> Path:
    """A model of 500 trees with 63 leaves that splits these rows by all columns; kept between runs."""
    path = CACHE / f"lightgbm-{lightgbm.__version__}-{TREES}x{LEAVES}-{len(columns)}.txt"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        bad = np.random.default_rng(11).random(len(rows)) < 0.5
        parameters = {
            "objective": "binary",
            "num_leaves": LEAVES,
            "min_data_in_leaf": 5,
            "min_sum_hessian_in_leaf": 0.0,
            "learning_rate": 0.01,  # so slow that the last tree has as many leaves as the first
            "feature_fraction": 0.2,
            "max_bin": 63,
            "num_threads": 1,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(rows, bad, feature_name=list(columns))
        lightgbm.train(parameters, data, num_boost_round=TREES).save_model(path)
    return path
