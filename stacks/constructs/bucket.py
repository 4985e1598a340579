"""Buckets: private, encrypted, TLS only, access logged."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.retention import removal_policy
from stacks.stage import StageStack


class HouseBucket(s3.Bucket):
    """A bucket with the house defaults; without `access_logs` it is the bucket that takes the access logs."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        access_logs: s3.IBucket | None = None,
        versioned: bool = False,
        lifecycle: Sequence[s3.LifecycleRule] = (),
    ) -> None:
        unfinished = s3.LifecycleRule(abort_incomplete_multipart_upload_after=cdk.Duration.days(7))
        super().__init__(
            scope,
            construct_id,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=removal_policy(StageStack.enclosing(scope).settings),
            versioned=versioned,
            lifecycle_rules=[unfinished, *lifecycle],
            server_access_logs_bucket=access_logs,
            server_access_logs_prefix=f"{construct_id.lower()}/" if access_logs else None,
        )
