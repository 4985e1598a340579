"""Events: bus → queue → online features, and bus → archive; also the queue of stale items to heal."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda_event_sources as sources
from constructs import Construct

from stacks.constructs.archive_stream import ArchiveStream
from stacks.constructs.function import HouseFunction
from stacks.constructs.queue import HouseQueue
from stacks.settings import StageSettings
from stacks.stage import StageStack
from stacks.storage import StorageStack

LENDER, PLATFORM, HISTORY = "candor.lender", "candor.platform", "candor.history"
"""The EventBridge sources of events: the lender's services, the platform about its own decisions, loaded history."""

ARCHIVED_LINE = '{"ingestion_time":<aws.events.event.ingestion-time>,"event":<aws.events.event.json>}'
"""The archived line of an event. A producer may set the envelope's `time`; only the bus sets the ingestion time."""

EVENTS_PREFIX = "events/"
"""Prefix of the archived events."""

UPDATE_TIMEOUT_S = 30

HEAL_TIMEOUT_S = 120
"""Timeout of `heal_features` (in the history stack), from which the queue's visibility timeout follows."""


class IngestionStack(StageStack):
    """One bus with two rules: to the queue that feeds `update_features`, and to the archive of raw events."""

    unit = "ingestion"

    def __init__(self, scope: Construct, settings: StageSettings, *, storage: StorageStack) -> None:
        super().__init__(scope, settings)
        self.bus = events.EventBus(
            self, "Bus", description=f"candor {settings.stage}: events of lender and platform"
        )
        self.undelivered = HouseQueue(self, "Undelivered", retention_days=settings.dlq_retention_days)
        self.events_dlq, self.events_queue = self._queues("Events", UPDATE_TIMEOUT_S)
        self.stale_items_dlq, self.stale_items = self._queues("StaleItems", HEAL_TIMEOUT_S)
        self.archive = ArchiveStream(self, "Archive", prefix=EVENTS_PREFIX, bucket=storage.archive)
        self._rule("ToQueue", targets.SqsQueue(self.events_queue, dead_letter_queue=self.undelivered))
        to_archive = self._rule("ToArchive", targets.FirehoseDeliveryStream(self.archive.stream))
        self._keep_undelivered(to_archive)
        # CDK's template would quote the event, and EventBridge does not escape the quotes inside it.
        _resource(to_archive).add_property_override("Targets.0.InputTransformer.InputTemplate", ARCHIVED_LINE)
        self.update_features = self._update_features(storage)
        self.add_outputs(
            EventBusName=self.bus.event_bus_name,
            EventsQueueUrl=self.events_queue.queue_url,
            EventsDlqUrl=self.events_dlq.queue_url,
            UndeliveredUrl=self.undelivered.queue_url,
            StaleItemsUrl=self.stale_items.queue_url,
            StaleItemsDlqUrl=self.stale_items_dlq.queue_url,
        )

    def _queues(self, name: str, timeout_s: int) -> tuple[HouseQueue, HouseQueue]:
        """A dead-letter queue and the queue in front of it, for a function with this timeout."""
        dlq = HouseQueue(self, f"{name}Dlq", retention_days=self.settings.dlq_retention_days)
        queue = HouseQueue(
            self,
            name,
            retention_days=self.settings.events_retention_days,
            # Lambda's advice: six times the function's timeout, so that no message is delivered twice at once.
            visibility_timeout_s=6 * timeout_s,
            dead_letters=dlq,
        )
        return dlq, queue

    def _rule(self, name: str, target: events.IRuleTarget) -> events.Rule:
        pattern = events.EventPattern(source=[LENDER, PLATFORM, HISTORY])
        return events.Rule(self, name, event_bus=self.bus, event_pattern=pattern, targets=[target])

    def _keep_undelivered(self, rule: events.Rule) -> None:
        """Set the DLQ of the rule's only target, for which CDK's Firehose target has no argument."""
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
        layers = self.layers
        function = HouseFunction(
            self,
            "UpdateFeatures",
            name="update_features",
            layers=[layers.core, layers.lender, layers.runtime],
            timeout_s=UPDATE_TIMEOUT_S,
            environment={
                "FEATURES_TABLE": storage.features.table_name,
                "SYNCHRONOUS_TABLE": storage.synchronous_features.table_name,
                "EVENTS_QUEUE_URL": self.events_queue.queue_url,
                "EVENTS_DLQ_URL": self.events_dlq.queue_url,
                "STALE_ITEMS_URL": self.stale_items.queue_url,
                "REDELIVERY_HORIZON_DAYS": str(self.settings.redelivery_horizon_days),
            },
        )
        # TransactWriteItems (marker items) is authorised as the writes in it.
        function.allow(
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            on=[storage.features.table_arn, storage.synchronous_features.table_arn],
        )
        # Events dated in the future go back into its own queue until their time.
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
    """The IAM condition that permits publishing events of this source only."""
    return {"StringEquals": {"events:source": source}}


def _resource(rule: events.Rule) -> events.CfnRule:
    resource = rule.node.default_child
    assert isinstance(resource, events.CfnRule)
    return resource
