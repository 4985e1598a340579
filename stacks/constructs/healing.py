"""Healing of stale items: the archive's index, updated hourly, and the consumer of the queue of stale items."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda_event_sources as sources
from constructs import Construct

from stacks.constructs.function import HouseFunction
from stacks.constructs.roles import allow, service_role
from stacks.constructs.schedule import HouseSchedule
from stacks.ingestion import HEAL_TIMEOUT_S, IngestionStack
from stacks.stage import StageConstruct
from stacks.storage import StorageStack

RAW = ("commits/*", "events/*")
INDEX = "index/*"

MEMORY_MB = 1769
"""One full vCPU: both functions decompress and decode."""

INDEX_TIMEOUT_S = 900
OBJECT_S = 420
"""Upper bound of building one index object, with a margin; measured in docs/adr/0032."""

INDEX_DISK_MB = 4096
"""Space for sorted runs and the finished object of four weeks."""

BATCH = 10
"""Items that share one read of the archive."""

ARCHIVE_LAG_S = 150
"""Upper bound until a commit is archived: the stream's window, Firehose's minute, and a margin."""

RETRY_S = 60


class Healing(StageConstruct):
    """`heal_features` on the queue of stale items, and `index_archive` on two schedules."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        storage: StorageStack,
        ingestion: IngestionStack,
    ) -> None:
        super().__init__(scope, construct_id)
        self._storage = storage
        self.index_archive = self._index_archive()
        self.heal_features = self._heal_features(ingestion)

    def _index_archive(self) -> HouseFunction:
        archive = self._storage.archive
        function = HouseFunction(
            self,
            "IndexArchive",
            name="index_archive",
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
        # Not at the full hour: the previous hour is settled twenty minutes later.
        self._schedule("Hourly", "cron(20 * * * ? *)", function, role, {})
        self._schedule("Daily", "cron(40 2 * * ? *)", function, role, {"whole": True})
        return function

    def _starter(self, function: HouseFunction) -> iam.Role:
        description = f"candor {self._settings.stage}: schedules of the archive's index"
        role = service_role(self, "ScheduleRole", "scheduler", description)
        allow(role, "lambda:InvokeFunction", on=[function.function_arn])
        return role

    def _schedule(
        self, name: str, expression: str, function: HouseFunction, role: iam.Role, payload: dict[str, bool]
    ) -> None:
        HouseSchedule(
            self,
            name,
            expression=expression,
            target_arn=function.function_arn,
            role=role,
            payload=json.dumps(payload),
        )

    def _heal_features(self, ingestion: IngestionStack) -> HouseFunction:
        storage, layers = self._storage, self._layers
        function = HouseFunction(
            self,
            "HealFeatures",
            name="heal_features",
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
