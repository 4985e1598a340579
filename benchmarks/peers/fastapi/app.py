"""FastAPI + boto3 + LightGBM: the same work as the prepared decision. `PEER_LAYOUT` is attributes or packed.

Kept as lean as its users would: one worker, uvloop and httptools, no access log, orjson, no thread pool (one client asks).
"""

import hashlib
import os
import sys
import time
import uuid
from typing import Annotated, Any

import boto3
import lightgbm
import numpy as np
import orjson
from botocore.config import Config
from fastapi import FastAPI, Header
from pydantic import BaseModel

GROUPS = [f"view{place}" for place in range(4)]
NAMES = [f"f{place}" for place in range(120)]
PACKED = os.environ["PEER_LAYOUT"] == "packed"
TABLE = os.environ["PEER_LAYOUT"]
BOOSTER = lightgbm.Booster(model_file=os.environ["PEER_MODEL"])
DYNAMODB = boto3.client("dynamodb", config=Config(parameter_validation=False))
app = FastAPI()


class Item(BaseModel):
    sku: str
    unit_price: int
    qty: int
    category: str | None = None


class Applicant(BaseModel):
    token: str
    email_sha256: str | None = None
    shipping_matches_billing: bool | None = None


class Offer(BaseModel):
    product: str
    installments: int
    period_days: int
    finance_charge: int = 0


class Device(BaseModel):
    fingerprint: str | None = None
    ip_prefix: str | None = None
    session_age_s: int | None = None


class Checkout(BaseModel):
    checkout_id: str
    merchant_order_id: str
    country: str
    currency: str
    total: int
    items: list[Item]
    applicant: Applicant
    offer: Offer
    device: Device | None = None


@app.post("/v1/decisions")
async def decide(
    checkout: Checkout, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, Any]:
    started = time.perf_counter()
    keys = [{"pk": {"S": f"{group}@1#{checkout.applicant.token}"}} for group in GROUPS]
    found = DYNAMODB.batch_get_item(RequestItems={TABLE: {"Keys": keys}})["Responses"][TABLE]
    row = packed(found) if PACKED else attributes(found)
    score = float(BOOSTER.predict(row, num_threads=1)[0])
    outcome = "approved" if score <= 0.999_999 else "declined"
    name = "dec_" + hashlib.sha256(f"mer_1\0{idempotency_key or uuid.uuid4().hex}".encode()).hexdigest()[:26]
    answer = {
        "id": name,
        "outcome": outcome,
        "currency": checkout.currency,
        "approved_amount_max": checkout.total,
    }
    record = {"request": checkout.model_dump(), "values": row[0].tolist(), "score": score, **answer}
    DYNAMODB.put_item(
        TableName="decisions",
        Item={
            "pk": {"S": name},
            "r": {"B": orjson.dumps(record)},
            "a": {"B": orjson.dumps(answer)},
            "q": {"N": str(int(time.time() * 1000))},
        },
        ConditionExpression="attribute_not_exists(pk)",
    )
    line = {"decision_id": name, "outcome": outcome, "LatencyMs": (time.perf_counter() - started) * 1000}
    sys.stdout.write(orjson.dumps(line).decode() + "\n")
    return answer


def packed(items: list[dict[str, Any]]) -> np.ndarray:
    blobs = {item["pk"]["S"].partition("@")[0]: item["b"]["B"] for item in items}
    return np.frombuffer(b"".join(blobs[group] for group in GROUPS)).reshape(1, -1)


def attributes(items: list[dict[str, Any]]) -> np.ndarray:
    values = {name: float(value["N"]) for item in items for name, value in item.items() if "N" in value}
    return np.array([[values.get(name, np.nan) for name in NAMES]])
