"""Events: bus to queue to online features, and bus to archive; the queue of items that have to be healed."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.constructs.archive_stream import ArchiveStream
from stacks.constructs.function import HouseFunction
from stacks.constructs.layers import HouseLayers
from stacks.settings import StageSettings
from stacks.storage import StorageStack

LENDER, PLATFORM, HISTORY = "candor.lender", "candor.platform", "candor.history"
"""The EventBridge sources of events: the lender's services, the platform about its own decisions, loaded history."""

ARCHIVED_LINE = '{"ingestion_time":<aws.events.event.ingestion-time>,"event":<aws.events.event.json>}'
"""What the archive keeps of an event. A producer may set the envelope's `time`; the bus alone sets the ingestion time."""

EVENTS_PREFIX = "events/"
"""Where the archive keeps them."""

MAX_RECEIVE_COUNT = 5
UPDATE_TIMEOUT_S = 30

HEAL_TIMEOUT_S = 120
"""Of `heal_features`, which the history stack declares: the queue's visibility follows from it."""


class IngestionStack(cdk.Stack):
    """One bus with two rules: the queue that feeds `update_features`, and the archive of raw events."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: StageSettings,
        storage: StorageStack,
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, construct_id, **kwargs)
        self._settings = settings
        self.bus = events.EventBus(
            self, "Bus", description=f"candor {settings.stage}: events of lender and platform"
        )
        self.undelivered = self._queue("Undelivered", retention_days=settings.dlq_retention_days)
        self.events_dlq = self._queue("EventsDlq", retention_days=settings.dlq_retention_days)
        self.events_queue = self._queue(
            "Events",
            retention_days=settings.events_retention_days,
            # Lambda's advice: six times the function's timeout, so that no event is handed out twice at once.
            visibility_timeout=cdk.Duration.seconds(6 * UPDATE_TIMEOUT_S),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.events_dlq, max_receive_count=MAX_RECEIVE_COUNT),
        )
        self.stale_items_dlq = self._queue("StaleItemsDlq", retention_days=settings.dlq_retention_days)
        self.stale_items = self._queue(
            "StaleItems",
            retention_days=settings.events_retention_days,
            visibility_timeout=cdk.Duration.seconds(6 * HEAL_TIMEOUT_S),
            dead_letter_queue=sqs.DeadLetterQueue(
                queue=self.stale_items_dlq, max_receive_count=MAX_RECEIVE_COUNT
            ),
        )
        self.archive = ArchiveStream(
            self, "Archive", prefix=EVENTS_PREFIX, bucket=storage.archive, settings=settings
        )
        self._rule("ToQueue", targets.SqsQueue(self.events_queue, dead_letter_queue=self.undelivered))
        to_archive = self._rule("ToArchive", targets.FirehoseDeliveryStream(self.archive.stream))
        self._keep_undelivered(to_archive)
        # CDK's own template would quote the event, whose quotes EventBridge does not escape.
        _resource(to_archive).add_property_override("Targets.0.InputTransformer.InputTemplate", ARCHIVED_LINE)
        self.update_features = self._update_features(storage)
        cdk.CfnOutput(self, "EventBusName", value=self.bus.event_bus_name)
        cdk.CfnOutput(self, "EventsQueueUrl", value=self.events_queue.queue_url)
        cdk.CfnOutput(self, "EventsDlqUrl", value=self.events_dlq.queue_url)
        cdk.CfnOutput(self, "StaleItemsUrl", value=self.stale_items.queue_url)
        cdk.CfnOutput(self, "StaleItemsDlqUrl", value=self.stale_items_dlq.queue_url)

    def _queue(self, name: str, *, retention_days: int, **kwargs: Any) -> sqs.Queue:
        return sqs.Queue(
            self,
            name,
            retention_period=cdk.Duration.days(retention_days),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            **kwargs,
        )

    def _rule(self, name: str, target: events.IRuleTarget) -> events.Rule:
        pattern = events.EventPattern(source=[LENDER, PLATFORM, HISTORY])
        return events.Rule(self, name, event_bus=self.bus, event_pattern=pattern, targets=[target])

    def _keep_undelivered(self, rule: events.Rule) -> None:
        """Give the rule's only target a DLQ; CDK's Firehose target has no argument for it."""
        _resource(rule).add_property_override("Targets.0.DeadLetterConfig.Arn", self.undelivered.queue_arn)
        self.undelivered.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sqs:SendMessage"],
                resources=[self.undelivered.queue_arn],
                principals=[iam.ServicePrincipal("events.amazonaws.com")],
                conditions={"ArnEquals": {"aws:SourceArn": rule.rule_arn}},
            )
        )

    def _update_features(self, storage: StorageStack) -> HouseFunction:
        layers = HouseLayers(self, "Layers")
        function = HouseFunction(
            self,
            "UpdateFeatures",
            name="update_features",
            settings=self._settings,
            layers=[layers.core, layers.lender, layers.runtime],
            timeout_s=UPDATE_TIMEOUT_S,
            environment={
                "FEATURES_TABLE": storage.features.table_name,
                "SYNCHRONOUS_TABLE": storage.synchronous_features.table_name,
                "EVENTS_QUEUE_URL": self.events_queue.queue_url,
                "EVENTS_DLQ_URL": self.events_dlq.queue_url,
                "STALE_ITEMS_URL": self.stale_items.queue_url,
                "REDELIVERY_HORIZON_DAYS": str(self._settings.redelivery_horizon_days),
            },
        )
        # TransactWriteItems, for marker items, is authorised as the writes that it holds.
        function.allow(
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            on=[storage.features.table_arn, storage.synchronous_features.table_arn],
        )
        # Into its own queue go events that are dated ahead: they come again when their moment has come.
        queues = [self.events_dlq.queue_arn, self.events_queue.queue_arn, self.stale_items.queue_arn]
        function.allow("sqs:SendMessage", on=queues)
        function.add_event_source(
            sources.SqsEventSource(
                self.events_queue,
                batch_size=100,
                max_batching_window=cdk.Duration.seconds(1),
                max_concurrency=2,
                report_batch_item_failures=True,
            )
        )
        return function


def only_as(source: str) -> dict[str, dict[str, str]]:
    """The condition under which events may be published as this source alone."""
    return {"StringEquals": {"events:source": source}}


def _resource(rule: events.Rule) -> events.CfnRule:
    resource = rule.node.default_child
    assert isinstance(resource, events.CfnRule)
    return resource
