"""Artifacts in S3: packed models of training jobs, and bundles by their hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from candor.errors import BundleRefused, StoreUnavailable
from candor.model.policy_document import PolicyDocument

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONFIG: Final = Config(
    connect_timeout=2, read_timeout=60, retries={"total_max_attempts": 3, "mode": "standard"}
)


def s3_client() -> S3Client:
    """An S3 client with explicit time-outs: botocore's default is a minute per connection."""
    return boto3.client("s3", config=_CONFIG)


def read_object(s3: S3Client, uri: str) -> bytes:
    """Bytes of `s3://bucket/key`. Raises BundleRefused if it does not exist, StoreUnavailable if S3 fails."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            raise BundleRefused(f"nothing is at {uri}: the step that writes it did not finish") from error
        raise StoreUnavailable(f"{uri} could not be read: {error}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"{uri} could not be read: {error}") from error


def keep_bundle(s3: S3Client, bucket: str, sha: str, data: bytes) -> None:
    """Write `bundles/<sha>.json` once. The name is its hash, so an existing file has the same content."""
    _keep(s3, bucket, bundle_key(sha), f"bundle {sha[:12]}", data)


def keep_policy(s3: S3Client, bucket: str, document: PolicyDocument) -> None:
    """Write `policies/<digest>.json` once."""
    _keep(s3, bucket, policy_key(document.digest), f"policy {document.digest[:12]}", document.to_bytes())


def read_policy(s3: S3Client, bucket: str, digest: str) -> PolicyDocument:
    """A policy document by its name. Raises BundleRefused, PolicyError, StoreUnavailable."""
    return PolicyDocument.from_bytes(read_object(s3, f"s3://{bucket}/{policy_key(digest)}"), digest)


def _keep(s3: S3Client, bucket: str, key: str, label: str, data: bytes) -> None:
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=data, ContentType="application/json", IfNoneMatch="*")
    except ClientError as error:
        if error.response["Error"]["Code"] != "PreconditionFailed":
            raise StoreUnavailable(f"{label} was not written: {error}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"{label} was not written: {error}") from error


def require_bundle(s3: S3Client, bucket: str, sha: str) -> None:
    """BundleRefused unless the bundle's file exists. Without list permission S3 answers 403 for a missing key."""
    try:
        s3.head_object(Bucket=bucket, Key=bundle_key(sha))
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "403", "NoSuchKey"):
            raise BundleRefused(f"bundle {sha[:12]} has no file in {bucket}: register it again") from error
        raise StoreUnavailable(f"bundle {sha[:12]} could not be looked up: {error}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"bundle {sha[:12]} could not be looked up: {error}") from error


def read_bundle(s3: S3Client, bucket: str, sha: str) -> bytes:
    """A bundle's bytes by its name. Raises BundleRefused if it does not exist, StoreUnavailable."""
    require_bundle(s3, bucket, sha)
    try:
        return s3.get_object(Bucket=bucket, Key=bundle_key(sha))["Body"].read()
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(f"bundle {sha[:12]} could not be read: {error}") from error


def bundle_key(sha: str) -> str:
    """Key of a bundle in its bucket."""
    return f"bundles/{sha}.json"


def policy_key(digest: str) -> str:
    """Key of a policy document in the bundles' bucket."""
    return f"policies/{digest}.json"
