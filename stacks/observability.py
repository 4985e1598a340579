"""Alarms: lost or late events, failing or slow decisions, failed retrainings, drifting models."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.constructs.archive_stream import ArchiveStream
from stacks.constructs.function import HouseFunction
from stacks.constructs.healing import Healing
from stacks.constructs.model_monitor import ModelMonitor
from stacks.history import HistoryStack
from stacks.ingestion import IngestionStack
from stacks.serving import ServingStack
from stacks.settings import StageSettings
from stacks.stage import StageStack
from stacks.storage import StorageStack
from stacks.training import TrainingStack

_MINUTE = cdk.Duration.minutes(1)
_FIVE_MINUTES = cdk.Duration.minutes(5)


class ObservabilityStack(StageStack):
    """Alarms on the other stacks' resources, their topic, and the champion's scheduled monitoring report."""

    unit = "observability"
    stateful = False

    def __init__(
        self,
        scope: Construct,
        settings: StageSettings,
        *,
        storage: StorageStack,
        ingestion: IngestionStack,
        history: HistoryStack,
        serving: ServingStack,
        training: TrainingStack,
    ) -> None:
        super().__init__(scope, settings)
        self.alarms = sns.Topic(self, "Alarms", enforce_ssl=True)
        if settings.alarm_email:
            for topic in (self.alarms, training.notices):
                topic.add_subscription(subscriptions.EmailSubscription(settings.alarm_email))
        self._events(ingestion)
        self._history(history)
        self._healing(ingestion, history.healing)
        self._decisions(serving)
        self._consistency()
        self._model()
        self.monitor = ModelMonitor(self, "ModelMonitor", storage=storage, jobs=training.jobs)
        failed = training.retrain.metric_failed(period=_FIVE_MINUTES)
        self._alarm("RetrainFailed", failed, "A retraining failed: read its execution in Step Functions.")
        blind = training.guard_models.metric_errors(period=_FIVE_MINUTES)
        self._alarm("GuardBlind", blind, "Nobody watches what was promoted: read the guard's log.", periods=3)

    def _events(self, ingestion: IngestionStack) -> None:
        self._dlq("EventsDlq", ingestion.events_dlq, "Events were refused: read their reason, fix, redrive.")
        self._dlq("Undelivered", ingestion.undelivered, "The bus could not deliver events: redrive them.")
        late = ingestion.events_queue.metric_approximate_age_of_oldest_message(period=_MINUTE)
        self._alarm("EventsLate", late, "Online features are stale.", threshold=900, periods=3)
        errors = ingestion.update_features.metric_errors(period=_FIVE_MINUTES)
        self._alarm("UpdateErrors", errors, "Batches of events fail as a whole.", periods=3)
        self._late("Archive", ingestion.archive, "Events do not reach the archive.")

    def _history(self, history: HistoryStack) -> None:
        self._dlq(
            "StreamsDlq", history.streams_dlq, "Commits or decisions were passed over: read them again."
        )
        self._late("Commits", history.commits, "The log of commits does not reach the archive.")
        self._late("Decisions", history.decisions, "Decisions do not reach the archive.")
        self._behind("LogCommits", history.log_commits, "The log of commits is behind the tables.")
        self._behind("PublishDecisions", history.publish_decisions, "Decisions are not published.")
        self._late("Shadows", history.shadows, "What shadows say does not reach the archive.")
        self._behind("ScoreShadows", history.score_shadows, "Shadows are behind the decisions.")

    def _healing(self, ingestion: IngestionStack, healing: Healing) -> None:
        self._dlq(
            "StaleItemsDlq", ingestion.stale_items_dlq, "Items stay stale: read the cause, then redrive."
        )
        late = ingestion.stale_items.metric_approximate_age_of_oldest_message(period=_MINUTE)
        self._alarm("StaleItemsLate", late, "Stale items are not taken up.", threshold=900, periods=3)
        # A message that waits for the archive is sent again, so its age in the queue is not the item's.
        stale = self._published("heal_features", "StaleSeconds")
        self._alarm("ItemsStayStale", stale, "Items are stale for 15 minutes and more.", threshold=900)
        errors = healing.heal_features.metric_errors(period=_FIVE_MINUTES)
        self._alarm("HealErrors", errors, "Batches of stale items fail as a whole.", periods=3)
        broken = healing.index_archive.metric_errors(period=_FIVE_MINUTES)
        self._alarm("IndexErrors", broken, "The archive's index is not kept up: read the function's log.")
        behind = self._published("index_archive", "IndexHoursBehind")
        self._alarm(
            "IndexBehind", behind, "The archive's index is a day behind: run it by hand.", threshold=24
        )

    def _published(self, service: str, name: str, statistic: str = "Maximum") -> cloudwatch.Metric:
        """A metric that our own code publishes, over five minutes."""
        return cloudwatch.Metric(
            namespace="Candor",
            metric_name=name,
            dimensions_map={"service": service, "stage": self.settings.stage},
            statistic=statistic,
            period=_FIVE_MINUTES,
        )

    def _decisions(self, serving: ServingStack) -> None:
        alias = serving.score_alias
        errors = alias.metric_errors(period=_MINUTE)
        self._alarm("ScoreErrors", errors, "Checkouts are answered by an error: consider a rollback.")
        slow = alias.metric_duration(statistic="p99", period=_FIVE_MINUTES)
        deadline_ms = self.settings.deadline_ms
        self._alarm("ScoreSlow", slow, "Decisions pass their deadline.", threshold=deadline_ms, periods=3)
        bundles = self._published("score", "BundlesFailed", "Sum")
        self._alarm("BundlesFailed", bundles, "The champion cannot serve: read the scorer's log, roll back.")
        for name, function in (
            ("Score", alias),
            ("Authorize", serving.authorize),
            ("PublishEvents", serving.publish_events),
        ):
            throttles = function.metric_throttles(period=_MINUTE)
            self._alarm(f"{name}Throttled", throttles, "The account's concurrency is used up.")
        refused = serving.authorize.metric_errors(period=_FIVE_MINUTES)
        self._alarm(
            "AuthorizeErrors", refused, "Many keys are refused, or the table cannot be read.", threshold=100
        )
        broken = serving.api.metric_server_error(statistic="Sum", period=_MINUTE)
        self._alarm("ApiServerErrors", broken, "The API answers 5xx.")

    def _consistency(self) -> None:
        """Alarms on differences that `candor features consistency --publish` must never find."""
        for name, metric, text in (
            ("ServedWrongly", "AsServedMismatches", "Decisions do not follow from the log: replay them."),
            (
                "UnexplainedDifferences",
                "UnexplainedDifferences",
                "Features differ from the archive for no reason.",
            ),
        ):
            self._alarm(name, self._published("consistency", metric), text)

    def _model(self) -> None:
        """Alarms on what `candor models monitor --publish` finds beyond chance; each limit is the report's."""
        for name, limit, text in (
            ("FeatureDrift", 0.25, "A feature is not what the model was trained on: see the report."),
            ("ScoreDrift", 0.25, "Scores are not what they were in training: see the report."),
            ("CalibrationOff", 0.1, "PDs are too extreme, or too alike: retrain."),
            ("BadRateOff", 0.2, "Loans turn bad more, or less, often than predicted: retrain."),
            ("ApprovalRateShift", 0.05, "The approval rate changed within a week: find out why."),
        ):
            self._alarm(name, self._published("monitor", name), text, threshold=limit)

    def _late(self, name: str, archive: ArchiveStream, text: str) -> None:
        age = archive.stream.metric("DeliveryToS3.DataFreshness", statistic="Maximum", period=_FIVE_MINUTES)
        self._alarm(f"{name}Late", age, text, threshold=1800, periods=3)

    def _behind(self, name: str, function: HouseFunction, text: str) -> None:
        """Alarm after one hour: the mapping gives a record up after 12, and the stream drops it after 24."""
        age = function.metric("IteratorAge", statistic="Maximum", period=_FIVE_MINUTES)
        self._alarm(f"{name}Behind", age, text, threshold=3_600_000)

    def _dlq(self, name: str, queue: sqs.Queue, text: str) -> None:
        depth = queue.metric_approximate_number_of_messages_visible(period=_MINUTE, statistic="Maximum")
        self._alarm(f"{name}NotEmpty", depth, text)

    def _alarm(
        self, name: str, metric: cloudwatch.IMetric, text: str, *, threshold: float = 1, periods: int = 1
    ) -> None:
        alarm = cloudwatch.Alarm(
            self,
            name,
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=text,
        )
        alarm.add_alarm_action(actions.SnsAction(self.alarms))
