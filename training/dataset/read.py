"""Reading and verifying the labelled training set that `training.dataset` wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from candor.clock import parse_rfc3339
from candor.features.definitions import Definitions
from training.dataset.build import DATASET, MANIFEST
from training.dataset.split import CannotLearn, Floats


@dataclass(frozen=True)
class TrainingSet:
    """Columns in row order, and the manifest. Moments are ms UTC, money is in minor units; `values` is row by feature.

    `weight` is each row's weight in fitting (class or propensity weight); 1 where the data set has no such column.
    `others` are the remaining columns: for segments, never for features.
    """

    manifest: Mapping[str, Any]
    values: Floats
    bad: NDArray[np.int8]
    q: NDArray[np.int64]
    known_at: NDArray[np.int64]
    amount: NDArray[np.int64]
    charge: NDArray[np.int64]
    weight: Floats
    row_ids: tuple[str, ...] = ()
    others: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)

    @property
    def as_of(self) -> int:
        """Knowledge cutoff (ms UTC): only what was known before it was used."""
        return parse_rfc3339(self.manifest["as_of"])


KNOWN = ("row_id", "q", "known_at", "bad", "amount", "finance_charge", "weight")


def read_training_set(folder: Path, definitions: Definitions) -> TrainingSet:
    """Read and verify the data set: the manifest's checksum and exactly these definitions. Raises CannotLearn."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        data = (folder / DATASET).read_bytes()
    except (OSError, ValueError) as error:
        raise CannotLearn(f"channel dataset in {folder}: {error}") from error
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        raise CannotLearn(f"{DATASET} is not the file that {MANIFEST} names: build the data set again")
    if manifest["definition_hash"] != definitions.hash:
        raise CannotLearn(
            "the data set was built with other definitions than this image holds: build it again"
        )
    return training_set(pq.read_table(pa.BufferReader(data)), definitions.features, manifest)


def training_set(table: pa.Table, features: tuple[str, ...], manifest: Mapping[str, Any]) -> TrainingSet:
    """A training set from a table's columns. Raises CannotLearn for unusable weights."""
    rest = [name for name in table.column_names if name not in KNOWN and name not in features]
    column = {name: table[name].to_numpy() for name in KNOWN[1:6]}
    return TrainingSet(
        manifest=manifest,
        values=np.column_stack([table[name].to_numpy() for name in features]),
        bad=column["bad"],
        q=column["q"],
        known_at=column["known_at"],
        amount=column["amount"],
        charge=column["finance_charge"],
        weight=_weights(table),
        row_ids=tuple(table["row_id"].to_pylist()),
        others={name: table[name] for name in rest},
    )


def _weights(table: pa.Table) -> Floats:
    if "weight" not in table.column_names:
        return np.ones(table.num_rows)
    weight = np.asarray(table["weight"].to_numpy(), dtype=np.float64)
    if not (np.isfinite(weight).all() and (weight >= 0.0).all() and weight.sum() > 0.0):
        raise CannotLearn("column weight must be finite, at least 0 and not all 0: build the data set again")
    return weight
