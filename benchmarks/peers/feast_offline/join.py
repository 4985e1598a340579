"""Feast's point-in-time join on DuckDB: the newest of 30 finished values as of every question.

`python join.py FOLDER` reads `ready.parquet` and `ready_labels.parquet`, prints CPU, elapsed seconds and peak memory as JSON, and
keeps the values as `feast.npy` in the order of the questions.
"""

import json
import resource
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Int64

NAMES = [f"integer_f{place}" for place in range(30)]


def main(folder: Path) -> None:
    store = FeatureStore(
        config=RepoConfig(
            project="peers",
            provider="local",
            registry=str(folder / "registry.db"),
            entity_key_serialization_version=3,
            offline_store={"type": "duckdb"},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
        )
    )
    customer = Entity(name="customer", join_keys=["entity_customer"], value_type=ValueType.STRING)
    source = FileSource(name="ready", path=str(folder / "ready.parquet"), timestamp_field="event_timestamp")
    fields = [Field(name=name, dtype=Int64) for name in NAMES]
    view = FeatureView(name="ready", entities=[customer], schema=fields, source=source, ttl=timedelta(0))
    store.apply([customer, view])
    began, cpu = time.perf_counter(), time.process_time()
    labels = pd.read_parquet(folder / "ready_labels.parquet")
    labels["event_timestamp"] = pd.to_datetime(labels.pop("q"), unit="ms", utc=True)
    labels["row"] = np.arange(len(labels))
    features = [f"ready:{name}" for name in NAMES]
    found = store.get_historical_features(entity_df=labels, features=features).to_df()
    spent = {"cpu_s": time.process_time() - cpu, "elapsed_s": time.perf_counter() - began}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    values = np.full((len(labels), len(NAMES)), np.nan)
    values[found["row"].to_numpy()] = found[NAMES].to_numpy(dtype=np.float64, na_value=np.nan)
    np.save(folder / "feast.npy", values)
    print(json.dumps({**spent, "peak_bytes": peak, "rows": len(found)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
