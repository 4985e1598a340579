"""Reading what is monitored from a stage: the serving model, its run's files, the archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from candor.errors import CandorError
from candor.model.bundle import Bundle
from candor.model.packed import PACKED, unpack
from candor.registry.artifacts import read_bundle
from candor.registry.registry import Registry
from history.archive.decisions import DECISIONS_PREFIX, read_decisions
from history.archive.events import EVENTS_PREFIX, read_envelopes
from history.archive.objects import Bucket
from training.dataset.build import DATASET, MANIFEST
from training.monitoring import CHAMPION
from training.monitoring.population import TrainingSnapshot, snapshot_of
from training.monitoring.reading import MonitoringInput

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class NoModel(CandorError):
    """The model does not exist, or part of it has expired; the message gives the remedy."""


@dataclass(frozen=True)
class StageLocations:
    """Names of a stage's registry table and buckets."""

    registry: str
    bundles: str
    training: str
    archive: str


def model_of(s3: S3Client, locations: StageLocations, run: str = CHAMPION) -> tuple[Bundle, TrainingSnapshot]:
    """The bundle of a run, or the champion's, and the data set that it was trained on.

    Raises NoModel, BundleRefused, SnapshotUnusable, StoreUnavailable.
    """
    if run == CHAMPION:
        registry = Registry(locations.registry)
        sha = registry.pointer().bundle
        if sha is None:
            raise NoModel("no model serves: retrain, or name a --run")
        known = registry.registration(sha)
        if known is None:
            raise NoModel(f"bundle {sha[:12]} is not in the registry: name its --run")
        bundle, run = Bundle.from_bytes(read_bundle(s3, locations.bundles, sha), sha), known.run
    else:
        bundle = unpack(_packed(s3, locations.training, run))
    try:
        dataset, manifest = (
            s3.get_object(Bucket=locations.training, Key=f"runs/{run}/dataset/{name}")["Body"].read()
            for name in (DATASET, MANIFEST)
        )
    except s3.exceptions.NoSuchKey:
        raise NoModel(
            f"the data set of run {run} has expired (training_retention_days): retrain, or name another --run"
        ) from None
    return bundle, snapshot_of(run, dataset, manifest, bundle)


def read_input(s3: S3Client, locations: StageLocations) -> MonitoringInput:
    """All decisions and events in the archive."""
    return MonitoringInput(
        read_decisions(Bucket(s3, locations.archive, DECISIONS_PREFIX)),
        read_envelopes(Bucket(s3, locations.archive, EVENTS_PREFIX)),
    )


def _packed(s3: S3Client, bucket: str, run: str) -> bytes:
    """The latest model.tar.gz of the run's training job. Raises NoModel."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"runs/{run}/model/")
    entries = [entry for page in pages for entry in page.get("Contents", ()) if entry["Key"].endswith(PACKED)]
    if not entries:
        raise NoModel(f"run {run} left no model: name another --run")
    latest = max(entries, key=lambda entry: (entry["LastModified"], entry["Key"]))
    return s3.get_object(Bucket=bucket, Key=latest["Key"])["Body"].read()
