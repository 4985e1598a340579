"""What a run leaves in S3 and in SageMaker: its order, the champion that it is compared with, its jobs and their outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from candor.errors import BundleRefused, StoreUnavailable
from candor.registry.artifacts import bundle_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ORDER: Final = "order.json"
POINTER: Final = "champion/pointer.json"
CHAMPION: Final = "champion/bundle.json"
EVALUATION: Final = "evaluation/evaluation.json"
KEPT: Final = ("evaluation.json", "report.html", "model_card.json")
"""What of an evaluation is kept beside the bundle; a run's own files expire."""

_MISSING: Final = ("404", "NoSuchKey", "NotFound")
_CONFIG: Final = Config(
    connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"}
)


class RunFolder:
    """`runs/<name>/` of the training bucket. Raises StoreUnavailable where S3 does not answer."""

    def __init__(self, s3: S3Client, bucket: str, run: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, f"runs/{run}/"

    def spec(self) -> dict[str, Any] | None:
        """What the run was asked for first, or None."""
        return self._read(ORDER)

    def keep_spec(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Write the order once; what stands then, ours or one that was faster."""
        try:
            self._s3.put_object(
                Bucket=self._bucket, Key=self._prefix + ORDER, Body=_json(spec), IfNoneMatch="*"
            )
        except ClientError as error:
            if _code(error) != "PreconditionFailed":
                raise StoreUnavailable(f"the run's order was not written: {error}") from error
        return self.spec() or dict(spec)

    def champion(self) -> str | None:
        """The bundle that the run is compared with; None if there was none, or nothing is written yet."""
        return (self._read(POINTER) or {}).get("bundle")

    def has_champion(self) -> bool:
        """Whether it is written what the run is compared with."""
        return self.holds(POINTER)

    def set_champion(self, sha: str | None, bundles: str) -> None:
        """Write what the run is compared with: a bundle of that bucket, or none. The pointer comes last."""
        try:
            if sha is not None:
                self._s3.copy_object(
                    Bucket=self._bucket,
                    Key=self._prefix + CHAMPION,
                    CopySource={"Bucket": bundles, "Key": bundle_key(sha)},
                )
            self._s3.put_object(Bucket=self._bucket, Key=self._prefix + POINTER, Body=_json({"bundle": sha}))
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable(f"the champion could not be laid beside the run: {error}") from error

    def evaluation(self) -> dict[str, Any]:
        """What the evaluation job found. Raises BundleRefused if it left nothing."""
        evaluation = self._read(EVALUATION)
        if evaluation is None:
            raise BundleRefused(f"no {EVALUATION} below {self._prefix}: the evaluation job left none")
        return evaluation

    def keep_evaluation(self, bundles: str, sha: str) -> list[str]:
        """Copy the evaluation beside the bundle, where it does not expire; the names that were there to copy."""
        kept = [name for name in KEPT if self.holds(f"evaluation/{name}")]
        for name in kept:
            try:
                self._s3.copy_object(
                    Bucket=bundles,
                    Key=evaluation_key(sha, name),
                    CopySource={"Bucket": self._bucket, "Key": f"{self._prefix}evaluation/{name}"},
                )
            except (BotoCoreError, ClientError) as error:
                raise StoreUnavailable(f"{name} was not kept beside the bundle: {error}") from error
        return kept

    def holds(self, key: str) -> bool:
        """Whether an object is there."""
        try:
            self._s3.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except ClientError as error:
            if _code(error) in _MISSING:
                return False
            raise StoreUnavailable(f"{self._prefix}{key} could not be looked up: {error}") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"{self._prefix}{key} could not be looked up: {error}") from error
        return True

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            body = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise StoreUnavailable(f"{self._prefix}{key} could not be read: {error}") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"{self._prefix}{key} could not be read: {error}") from error
        try:
            value = json.loads(body)
        except ValueError as error:
            raise BundleRefused(f"{self._prefix}{key} is no JSON: start another run") from error
        if not isinstance(value, dict):
            raise BundleRefused(f"{self._prefix}{key} is no JSON object: start another run")
        return value


class SageMakerJobReader:
    """The jobs of an account by name. Raises StoreUnavailable where SageMaker does not answer."""

    def __init__(self) -> None:
        self._sagemaker = boto3.client("sagemaker", config=_CONFIG)

    def status(self, kind: str, job: str) -> str | None:
        """InProgress, Completed, Failed, Stopping or Stopped; None if there never was such a job."""
        try:
            if kind == "Training":
                return self._sagemaker.describe_training_job(TrainingJobName=job)["TrainingJobStatus"]
            return self._sagemaker.describe_processing_job(ProcessingJobName=job)["ProcessingJobStatus"]
        except ClientError as error:
            # SageMaker has no code of its own for a name that it does not know.
            if _code(error) in ("ValidationException", "ResourceNotFound"):
                return None
            raise StoreUnavailable(f"job {job} could not be looked up: {error}") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"job {job} could not be looked up: {error}") from error


def evaluation_key(sha: str, name: str) -> str:
    """Where a file of a bundle's evaluation lies in the bundles' bucket."""
    return f"bundles/{sha}/{name}"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]
