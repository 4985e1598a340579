"""A Feast repository of one view with all 120 features, on DynamoDB: declared, filled, or served.

`python store.py fill` writes what the stub's attribute items hold; `uvicorn store:app` answers get_online_features + LightGBM.
"""

import os
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import lightgbm
import numpy as np
import pandas as pd
from fastapi import FastAPI
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

NAMES = [f"f{place}" for place in range(120)]
FEATURES = [f"finished:{name}" for name in NAMES]


def repository() -> FeatureStore:
    return FeatureStore(
        config=RepoConfig(
            project="peers",
            provider="aws",
            registry=str(Path(os.environ["PEER_FOLDER"]) / "registry.db"),
            entity_key_serialization_version=3,
            online_store={
                "type": "dynamodb",
                "region": "us-east-1",
                "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
            },
        )
    )


def fill() -> None:
    customer = Entity(name="customer", value_type=ValueType.STRING)
    source = FileSource(name="finished", path="unused.parquet", timestamp_field="at")
    fields = [Field(name=name, dtype=Float64) for name in NAMES]
    view = FeatureView(
        name="finished", entities=[customer], schema=fields, source=source, ttl=timedelta(days=365)
    )
    store = repository()
    store.apply([customer, view])
    frame = pd.DataFrame(rows(int(os.environ["PEER_CUSTOMERS"])), columns=NAMES)
    frame["customer"] = [f"cus_{number}" for number in range(len(frame))]
    frame["at"] = datetime.now(UTC) - timedelta(days=1)
    store.write_to_online_store("finished", df=frame)


def rows(customers: int) -> Iterator[tuple[float, ...]]:
    client = boto3.client("dynamodb", region_name="us-east-1", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for number in range(customers):
        keys = [{"pk": {"S": f"view{place}@1#cus_{number}"}} for place in range(4)]
        items = client.batch_get_item(RequestItems={"packed": {"Keys": keys}})["Responses"]["packed"]
        blobs = {item["pk"]["S"]: item["b"]["B"] for item in items}
        yield struct.unpack("=120d", b"".join(blobs[key["pk"]["S"]] for key in keys))


app = FastAPI()

if __name__ == "__main__":
    if sys.argv[1:] == ["fill"]:
        fill()
else:
    STORE = repository()
    BOOSTER = lightgbm.Booster(model_file=os.environ["PEER_MODEL"])


@app.post("/score")
async def score(asked: dict[str, str]) -> dict[str, float]:
    found = STORE.get_online_features(
        features=FEATURES, entity_rows=[{"customer": asked["customer"]}]
    ).to_dict()
    row = np.array([[np.nan if found[name][0] is None else found[name][0] for name in NAMES]])
    assert not np.isnan(row).all(), "Feast found nothing"
    return {"score": float(BOOSTER.predict(row, num_threads=1)[0])}
