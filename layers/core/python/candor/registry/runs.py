"""A training run in S3 and SageMaker: its spec, the champion to compare with, its jobs and their outputs."""

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

SPEC: Final = "order.json"
POINTER: Final = "champion/pointer.json"
CHAMPION: Final = "champion/bundle.json"
POLICY: Final = "policy/released.json"
EVALUATION: Final = "evaluation/evaluation.json"
KEPT: Final = ("evaluation.json", "report.html", "model_card.json")
"""Files of an evaluation that are copied to the bundle; a run's own files expire."""

_MISSING: Final = ("404", "NoSuchKey", "NotFound")
_CONFIG: Final = Config(
    connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"}
)


class RunFolder:
    """`runs/<name>/` of the training bucket. Raises StoreUnavailable if S3 fails."""

    def __init__(self, s3: S3Client, bucket: str, run: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, f"runs/{run}/"

    def spec(self) -> dict[str, Any] | None:
        """The stored spec of the run, or None."""
        return self._read(SPEC)

    def keep_spec(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Store the spec once; returns the stored one, which a concurrent start may have written."""
        try:
            self._s3.put_object(
                Bucket=self._bucket, Key=self._prefix + SPEC, Body=_json(spec), IfNoneMatch="*"
            )
        except ClientError as error:
            if _code(error) != "PreconditionFailed":
                raise StoreUnavailable(f"the run's order was not written: {error}") from error
        return self.spec() or dict(spec)

    def champion(self) -> str | None:
        """The bundle to compare with; None without a champion, or before it is pinned."""
        return (self._read(POINTER) or {}).get("bundle")

    def has_champion(self) -> bool:
        """True once the bundle to compare with (or its absence) is pinned."""
        return self.holds(POINTER)

    def set_champion(self, sha: str | None, bundles: str) -> None:
        """Pin the bundle to compare with, copied from `bundles`, or its absence. The pointer is written last."""
        try:
            if sha is not None:
                self._s3.copy_object(
                    Bucket=self._bucket,
                    Key=self._prefix + CHAMPION,
                    CopySource={"Bucket": bundles, "Key": bundle_key(sha)},
                )
            self._s3.put_object(Bucket=self._bucket, Key=self._prefix + POINTER, Body=_json({"bundle": sha}))
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable(f"the champion could not be copied to the run: {error}") from error

    def policy(self) -> dict[str, Any] | None:
        """The pinned policy, or None before it is pinned."""
        return self._read(POLICY)

    def set_policy(self, pinned: Mapping[str, Any]) -> None:
        """Pin the policy that training composes into the bundle."""
        try:
            self._s3.put_object(Bucket=self._bucket, Key=self._prefix + POLICY, Body=_json(pinned))
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable(f"the released policy could not be copied to the run: {error}") from error

    def evaluation(self) -> dict[str, Any]:
        """Output of the evaluation job. Raises BundleRefused if there is none."""
        evaluation = self._read(EVALUATION)
        if evaluation is None:
            raise BundleRefused(f"no {EVALUATION} below {self._prefix}: the evaluation job left none")
        return evaluation

    def keep_evaluation(self, bundles: str, sha: str) -> list[str]:
        """Copy the evaluation to the bundle, where it does not expire; returns the names copied."""
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
        """True if an object exists."""
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
    """Jobs of an account by name. Raises StoreUnavailable if SageMaker fails."""

    def __init__(self) -> None:
        self._sagemaker = boto3.client("sagemaker", config=_CONFIG)

    def status(self, kind: str, job: str) -> str | None:
        """InProgress, Completed, Failed, Stopping or Stopped; None if the job does not exist."""
        try:
            if kind == "Training":
                return self._sagemaker.describe_training_job(TrainingJobName=job)["TrainingJobStatus"]
            return self._sagemaker.describe_processing_job(ProcessingJobName=job)["ProcessingJobStatus"]
        except ClientError as error:
            # SageMaker has no error code of its own for an unknown name.
            if _code(error) in ("ValidationException", "ResourceNotFound"):
                return None
            raise StoreUnavailable(f"job {job} could not be looked up: {error}") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"job {job} could not be looked up: {error}") from error


def evaluation_key(sha: str, name: str) -> str:
    """Key of a file of a bundle's evaluation in the bundles' bucket."""
    return f"bundles/{sha}/{name}"


def copy_evaluation(s3: S3Client, bundles: str, source: str, target: str) -> None:
    """Copy the evaluation files of a bundle to another one with the same model, as far as they exist."""
    for name in KEPT:
        try:
            s3.copy_object(
                Bucket=bundles,
                Key=evaluation_key(target, name),
                CopySource={"Bucket": bundles, "Key": evaluation_key(source, name)},
            )
        except ClientError as error:
            # Without list permission S3 answers 403 for a missing key.
            if _code(error) not in (*_MISSING, "403", "AccessDenied"):
                raise StoreUnavailable(f"{name} was not copied to bundle {target[:12]}: {error}") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"{name} was not copied to bundle {target[:12]}: {error}") from error


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]
