"""A person's rows in training data sets.

Bundles and model files need no change: they hold only sums over all rows.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from history.archive.versioned import Change, Remainder, Unusable, VersionedBucket

RUNS_PREFIX: Final = "runs/"
DATASET: Final = "dataset.parquet"
SERIES: Final = "series.parquet"
MANIFEST: Final = "manifest.json"
"""Files that `training.dataset` writes for each run; both tables identify checkouts by `row_id`."""


def without_rows(checkouts: Collection[str]) -> Change:
    """Return the change that removes rows of these checkouts. Raises Unusable for a file without `row_id`."""

    def change(body: bytes) -> Remainder:
        try:
            table = pq.read_table(pa.BufferReader(body))
            theirs = pc.is_in(table["row_id"], value_set=pa.array(sorted(checkouts), pa.string()))
        except (pa.ArrowException, KeyError) as error:
            raise Unusable(DATASET) from error
        removed = pc.sum(theirs).as_py() or 0
        if not removed:
            return Remainder(body)
        return Remainder(_written(table.filter(pc.invert(theirs))), removed=removed)

    return change


def clean_run(bucket: VersionedBucket, key: str, change: Change) -> int:
    """Rewrite one run's data set, its manifest first, so that an interrupted run still finds the rows.

    Returns how many old versions were deleted. An unusable data set is deleted with its manifest.
    """
    folder, _, name = key.rpartition("/")
    manifest = f"{folder}/{MANIFEST}"
    try:
        before = bucket.read(key)
        left = change(before["Body"])
        if left.changed:
            _restate(bucket, manifest, before["Body"], left, name)
    except Unusable:
        bucket.remove(manifest)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
    return bucket.clean(key, change)


def _restate(bucket: VersionedBucket, key: str, before: bytes, left: Remainder, name: str) -> None:
    """Update the manifest; earlier hashes stay, because a bundle's lineage refers to the data set by them."""
    try:
        stored = bucket.read(key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return
        raise
    manifest: dict[str, Any] = json.loads(stored["Body"])
    table = pq.read_table(pa.BufferReader(left.body))
    if name == SERIES:
        manifest["series"] = {"rows": table.num_rows, "sha256": hashlib.sha256(left.body).hexdigest()}
        bucket.put(key, _to_json(manifest), stored)
        return
    earlier = manifest.get("sha256_before_erasures", [])
    if manifest.get("sha256") == hashlib.sha256(before).hexdigest():
        earlier = [*earlier, manifest["sha256"]]
    manifest |= {
        "rows": table.num_rows,
        "bads": pc.sum(table["bad"]).as_py() or 0,
        "sha256": hashlib.sha256(left.body).hexdigest(),
        "sha256_before_erasures": earlier,
    }
    bucket.put(key, _to_json(manifest), stored)


def _to_json(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def _written(table: pa.Table) -> bytes:
    """Serialize deterministically: the manifest records the bytes' hash before they are stored."""
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()
