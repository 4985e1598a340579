"""BentoML + boto3 + LightGBM: the same work as the prepared decision, on attributes."""

import os
import sys
import time
import uuid

import bentoml
import boto3
import lightgbm
import numpy as np
import orjson
from botocore.config import Config

GROUPS = [f"view{place}" for place in range(4)]
NAMES = [f"f{place}" for place in range(120)]


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Decisions:
    def __init__(self) -> None:
        self.booster = lightgbm.Booster(model_file=os.environ["PEER_MODEL"])
        self.dynamodb = boto3.client("dynamodb", config=Config(parameter_validation=False))

    @bentoml.api
    def decide(self, checkout: dict) -> dict:
        started = time.perf_counter()
        keys = [{"pk": {"S": f"{group}@1#{checkout['applicant']['token']}"}} for group in GROUPS]
        found = self.dynamodb.batch_get_item(RequestItems={"attributes": {"Keys": keys}})
        items = found["Responses"]["attributes"]
        values = {name: float(value["N"]) for item in items for name, value in item.items() if "N" in value}
        row = np.array([[values.get(name, np.nan) for name in NAMES]])
        score = float(self.booster.predict(row, num_threads=1)[0])
        outcome = "approved" if score <= 0.999_999 else "declined"
        answer = {
            "id": f"dec_{uuid.uuid4().hex}",
            "outcome": outcome,
            "approved_amount_max": checkout["total"],
        }
        record = {"request": checkout, "values": row[0].tolist(), "score": score, **answer}
        self.dynamodb.put_item(
            TableName="decisions",
            Item={
                "pk": {"S": answer["id"]},
                "r": {"B": orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)},
                "a": {"B": orjson.dumps(answer)},
            },
            ConditionExpression="attribute_not_exists(pk)",
        )
        line = {
            "decision_id": answer["id"],
            "outcome": outcome,
            "LatencyMs": (time.perf_counter() - started) * 1000,
        }
        sys.stdout.write(orjson.dumps(line).decode() + "\n")
        return answer
