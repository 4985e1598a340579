"""Stale items made exact: the index of the archive, kept up by the hour, and the worker of the queue of stale items."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from stacks.constructs.function import HouseFunction
from stacks.constructs.layers import HouseLayers
from stacks.ingestion import HEAL_TIMEOUT_S, IngestionStack
from stacks.settings import StageSettings
from stacks.storage import StorageStack

RAW = ("commits/*", "events/*")
INDEX = "index/*"

MEMORY_MB = 1769
"""A whole processor: both functions decompress and decode."""

INDEX_TIMEOUT_S = 900
OBJECT_S = 420
"""The longest that one index object takes, with room to spare; docs/adr/0032 has the measurement."""

INDEX_DISK_MB = 4096
"""Sorted runs and the finished object of four weeks."""

BATCH = 10
"""Items that share one reading of the archive."""

ARCHIVE_LAG_S = 150
"""How long a commit takes to the archive: the stream's window, then Firehose's minute, and room to spare."""

RETRY_S = 60


class Healing(Construct):
    """`heal_features` on the queue of stale items, `index_archive` by two schedules."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: StageSettings,
        storage: StorageStack,
        ingestion: IngestionStack,
        layers: HouseLayers,
    ) -> None:
        super().__init__(scope, construct_id)
        self._settings, self._storage, self._layers = settings, storage, layers
        self.index_archive = self._index_archive()
        self.heal_features = self._heal_features(ingestion)

    def _index_archive(self) -> HouseFunction:
        archive = self._storage.archive
        function = HouseFunction(
            self,
            "IndexArchive",
            name="index_archive",
            settings=self._settings,
            layers=[self._layers.core, self._layers.history, self._layers.runtime],
            timeout_s=INDEX_TIMEOUT_S,
            memory_mb=MEMORY_MB,
            environment={"ARCHIVE_BUCKET": archive.bucket_name, "OBJECT_SECONDS": str(OBJECT_S)},
        )
        function.give_disk(INDEX_DISK_MB)
        raw = [archive.arn_for_objects(prefix) for prefix in RAW]
        index = archive.arn_for_objects(INDEX)
        function.allow("s3:ListBucket", "s3:ListBucketVersions", on=archive.bucket_arn)
        function.allow("s3:GetObject", on=[*raw, index])
        function.allow("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObject", on=index)
        role = self._starter(function)
        # Not at the full hour: the hour before has settled by then.
        self._schedule("Hourly", "cron(20 * * * ? *)", function, role, {})
        self._schedule("Daily", "cron(40 2 * * ? *)", function, role, {"whole": True})
        return function

    def _starter(self, function: HouseFunction) -> iam.Role:
        account = {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}
        role = iam.Role(
            self,
            "ScheduleRole",
            assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com", conditions=account),
            description=f"candor {self._settings.stage}: schedules of the archive's index",
        )
        role.add_to_policy(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[function.function_arn])
        )
        return role

    def _schedule(
        self, name: str, expression: str, function: HouseFunction, role: iam.Role, given: dict[str, bool]
    ) -> None:
        scheduler.CfnSchedule(
            self,
            name,
            schedule_expression=expression,
            schedule_expression_timezone="UTC",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=function.function_arn,
                role_arn=role.role_arn,
                input=json.dumps(given),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=3600, maximum_retry_attempts=3
                ),
            ),
        )

    def _heal_features(self, ingestion: IngestionStack) -> HouseFunction:
        storage, layers = self._storage, self._layers
        function = HouseFunction(
            self,
            "HealFeatures",
            name="heal_features",
            settings=self._settings,
            layers=[layers.core, layers.lender, layers.history, layers.runtime],
            timeout_s=HEAL_TIMEOUT_S,
            memory_mb=MEMORY_MB,
            environment={
                "ARCHIVE_BUCKET": storage.archive.bucket_name,
                "FEATURES_TABLE": storage.features.table_name,
                "SYNCHRONOUS_TABLE": storage.synchronous_features.table_name,
                "STALE_ITEMS_URL": ingestion.stale_items.queue_url,
                "ARCHIVE_LAG_S": str(ARCHIVE_LAG_S),
                "RETRY_S": str(RETRY_S),
            },
        )
        function.allow("s3:ListBucket", on=storage.archive.bucket_arn)
        function.allow(
            "s3:GetObject", on=[storage.archive.arn_for_objects(prefix) for prefix in (*RAW, INDEX)]
        )
        function.allow(
            "dynamodb:BatchGetItem",
            "dynamodb:PutItem",
            on=[storage.features.table_arn, storage.synchronous_features.table_arn],
        )
        function.allow("sqs:SendMessage", on=ingestion.stale_items.queue_arn)
        function.add_event_source(
            sources.SqsEventSource(
                ingestion.stale_items,
                batch_size=BATCH,
                max_batching_window=cdk.Duration.seconds(5),
                max_concurrency=self._settings.healing_concurrency,
                report_batch_item_failures=True,
            )
        )
        return function
