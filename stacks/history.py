"""History: tables' streams to the archive, decisions to the bus, healing of stale items from the archive."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.constructs.archive_stream import ArchiveStream
from stacks.constructs.archive_tables import ArchiveTables
from stacks.constructs.function import HouseFunction
from stacks.constructs.healing import Healing
from stacks.constructs.queue import HouseQueue
from stacks.ingestion import PLATFORM, IngestionStack, only_as
from stacks.settings import StageSettings
from stacks.stage import StageStack
from stacks.storage import StorageStack

COMMITS_PREFIX, DECISIONS_PREFIX, SHADOWS_PREFIX = "commits/", "decisions/", "shadows/"
"""Prefixes of the archive: the log of commits, decision records, and the scores of shadow bundles."""

TIMEOUT_S = 60

MAX_RECORD_AGE_H = 12
"""Hours for which a failing record is retried: half of a stream's retention, so that a person has the other half."""

# Writes that are neither commits nor decisions invoke no function. `vn` is `NUMBER` in candor/store/layout.py.
_COMMITS = {"dynamodb": {"NewImage": {"vn": {"N": [{"exists": True}]}}}}
_INSERTS = {"eventName": ["INSERT"]}


class HistoryStack(StageStack):
    """`log_commits` on the feature tables' streams, `publish_decisions` and `score_shadows` on the decisions' stream.

    Also the archive's tables for Athena, and the healing of stale items.
    """

    unit = "history"

    def __init__(
        self,
        scope: Construct,
        settings: StageSettings,
        *,
        storage: StorageStack,
        ingestion: IngestionStack,
    ) -> None:
        super().__init__(scope, settings)
        self.streams_dlq = HouseQueue(self, "StreamsDlq", retention_days=settings.dlq_retention_days)
        archive = storage.archive
        self.commits = ArchiveStream(self, "Commits", prefix=COMMITS_PREFIX, bucket=archive)
        self.decisions = ArchiveStream(self, "Decisions", prefix=DECISIONS_PREFIX, bucket=archive)
        self.shadows = ArchiveStream(self, "Shadows", prefix=SHADOWS_PREFIX, bucket=archive)
        self.tables = ArchiveTables(self, "Tables", bucket=archive)
        self.log_commits = self._log_commits(storage)
        self.publish_decisions = self._publish_decisions(storage, ingestion)
        self.score_shadows = self._score_shadows(storage)
        self.healing = Healing(self, "Healing", storage=storage, ingestion=ingestion)
        self.add_outputs(StreamsDlqUrl=self.streams_dlq.queue_url)

    def _log_commits(self, storage: StorageStack) -> HouseFunction:
        function = HouseFunction(
            self,
            "LogCommits",
            name="log_commits",
            layers=[self.layers.core, self.layers.runtime],
            timeout_s=TIMEOUT_S,
            environment={
                "COMMITS_STREAM": self.commits.stream.delivery_stream_name,
                "STREAMS_DLQ_URL": self.streams_dlq.queue_url,
            },
        )
        function.allow("firehose:PutRecordBatch", on=self.commits.stream.delivery_stream_arn)
        function.allow("sqs:SendMessage", on=self.streams_dlq.queue_arn)
        for name, table in (
            ("FromFeatures", storage.features),
            ("FromSynchronousFeatures", storage.synchronous_features),
        ):
            self._map_stream(name, table, function, batch_size=1000, window_s=10, pattern=_COMMITS)
        return function

    def _publish_decisions(self, storage: StorageStack, ingestion: IngestionStack) -> HouseFunction:
        function = HouseFunction(
            self,
            "PublishDecisions",
            name="publish_decisions",
            layers=[self.layers.core, self.layers.lender, self.layers.runtime],
            timeout_s=TIMEOUT_S,
            environment={
                "DECISIONS_STREAM": self.decisions.stream.delivery_stream_name,
                "EVENT_BUS_NAME": ingestion.bus.event_bus_name,
                "STREAMS_DLQ_URL": self.streams_dlq.queue_url,
            },
        )
        function.allow("firehose:PutRecordBatch", on=self.decisions.stream.delivery_stream_arn)
        function.allow("events:PutEvents", on=ingestion.bus.event_bus_arn, when=only_as(PLATFORM))
        function.allow("sqs:SendMessage", on=self.streams_dlq.queue_arn)
        self._map_stream(
            "FromDecisions", storage.decisions, function, batch_size=100, window_s=1, pattern=_INSERTS
        )
        return function

    def _score_shadows(self, storage: StorageStack) -> HouseFunction:
        layers = self.layers
        function = HouseFunction(
            self,
            "ScoreShadows",
            name="score_shadows",
            layers=[layers.core, layers.runtime, layers.lightgbm],
            timeout_s=TIMEOUT_S,
            environment={
                "SHADOWS_STREAM": self.shadows.stream.delivery_stream_name,
                "BUNDLES_BUCKET": storage.bundles.bucket_name,
                "REGISTRY_TABLE": storage.registry.table_name,
                "STREAMS_DLQ_URL": self.streams_dlq.queue_url,
            },
        )
        function.allow("firehose:PutRecordBatch", on=self.shadows.stream.delivery_stream_arn)
        function.allow("s3:GetObject", on=storage.bundles.arn_for_objects("bundles/*"))
        function.allow("dynamodb:GetItem", on=storage.registry.table_arn)
        function.allow("sqs:SendMessage", on=self.streams_dlq.queue_arn)
        self._map_stream(
            "ShadowsFromDecisions", storage.decisions, function, batch_size=100, window_s=10, pattern=_INSERTS
        )
        return function

    def _map_stream(
        self,
        name: str,
        table: dynamodb.Table,
        function: HouseFunction,
        *,
        batch_size: int,
        window_s: int,
        pattern: dict[str, Any],
    ) -> None:
        """Map a table's stream to a function, from the oldest record on, in the order of writes to each item."""
        stream = table.table_stream_arn
        assert stream is not None
        function.allow(
            "dynamodb:DescribeStream",
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            "dynamodb:ListStreams",
            on=stream,
        )
        mapping = lambda_.EventSourceMapping(
            self,
            name,
            target=function,
            event_source_arn=stream,
            starting_position=lambda_.StartingPosition.TRIM_HORIZON,
            batch_size=batch_size,
            max_batching_window=cdk.Duration.seconds(window_s),
            bisect_batch_on_error=True,
            report_batch_item_failures=True,
            max_record_age=cdk.Duration.hours(MAX_RECORD_AGE_H),
            filters=[lambda_.FilterCriteria.filter(pattern)],
        )
        # CDK's SqsDlq would also permit the function to read the queue's attributes.
        resource = mapping.node.default_child
        assert isinstance(resource, lambda_.CfnEventSourceMapping)
        resource.add_property_override("DestinationConfig.OnFailure.Destination", self.streams_dlq.queue_arn)
