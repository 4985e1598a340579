"""The way into the archive: a Firehose delivery stream that writes gzipped lines under one prefix of the bucket."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.log_group import HouseLogGroup
from stacks.stage import StageConstruct

UNDELIVERED_PREFIX = "undelivered/"
"""Prefix of the records that a stream could not deliver as lines."""


class ArchiveStream(StageConstruct):
    """Writes each record as one or more lines of an object under `prefix`; its role permits that prefix alone."""

    def __init__(self, scope: Construct, construct_id: str, *, prefix: str, bucket: s3.IBucket) -> None:
        super().__init__(scope, construct_id)
        log_group = HouseLogGroup(self, "Logs")
        role = self._role(bucket, prefix, log_group)
        destination = firehose.S3Bucket(
            bucket,
            compression=firehose.Compression.GZIP,
            data_output_prefix=prefix,
            error_output_prefix=UNDELIVERED_PREFIX,
            buffering_interval=cdk.Duration.seconds(60),
            buffering_size=cdk.Size.mebibytes(16),
            processors=[firehose.AppendDelimiterToRecordProcessor()],
            logging_config=firehose.EnableLogging(log_group),
            # CDK would grant deletion as well.
            role=role.without_policy_updates(),
        )
        self.stream = firehose.DeliveryStream(
            self,
            "Stream",
            destination=destination,
            encryption=firehose.StreamEncryption.aws_owned_key(),
        )
        # CDK's mapping of addresses is needed for streams into a VPC only.
        self._stack.node.try_remove_child("@aws-cdk--aws-kinesisfirehose.CidrBlocks")

    def _role(self, bucket: s3.IBucket, prefix: str, log_group: logs.LogGroup) -> iam.Role:
        objects = iam.PolicyStatement(
            actions=["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"],
            resources=[bucket.arn_for_objects(f"{below}*") for below in (prefix, UNDELIVERED_PREFIX)],
        )
        listing = iam.PolicyStatement(
            actions=["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
            resources=[bucket.bucket_arn],
        )
        write = iam.PolicyStatement(actions=["logs:PutLogEvents"], resources=[log_group.log_group_arn])
        return iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("firehose.amazonaws.com"),
            inline_policies={"Archive": iam.PolicyDocument(statements=[objects, listing, write])},
        )
