"""A bundle's entry in SageMaker's model registry, for lineage: data, job, gates and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from candor.errors import StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

_CONFIG: Final = Config(
    connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"}
)
_TYPES: Final = ["application/json"]


class Package(NamedTuple):
    """Content of an entry. URIs are `s3://…`."""

    bundle: str
    run: str
    passed: bool
    image: str
    packed_uri: str
    evaluation_uri: str
    lineage: dict[str, str]


def sagemaker_client() -> SageMakerClient:
    """A SageMaker client with explicit time-outs."""
    return boto3.client("sagemaker", config=_CONFIG)


def enter_package(client: SageMakerClient, group: str, package: Package) -> str:
    """Add a version to the group; returns its ARN. Idempotent by the bundle's name. Raises StoreUnavailable."""
    try:
        return client.create_model_package(**_request(group, package))["ModelPackageArn"]
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(f"SageMaker's model registry took no entry: {error}") from error


def _request(group: str, package: Package) -> Any:
    return {
        "ModelPackageGroupName": group,
        "ModelPackageDescription": f"bundle {package.bundle[:12]} of run {package.run}",
        # A candidate awaits a person's approval, or the state machine's last step.
        "ModelApprovalStatus": "PendingManualApproval" if package.passed else "Rejected",
        "ClientToken": package.bundle[:36],
        "InferenceSpecification": {
            "Containers": [{"Image": package.image, "ModelDataUrl": package.packed_uri}],
            "SupportedContentTypes": _TYPES,
            "SupportedResponseMIMETypes": _TYPES,
        },
        "ModelMetrics": {
            "ModelQuality": {
                "Statistics": {
                    "ContentType": "application/json",
                    "S3Uri": f"{package.evaluation_uri}/evaluation.json",
                }
            }
        },
        "CustomerMetadataProperties": {"bundle": package.bundle, "run": package.run, **package.lineage},
    }
