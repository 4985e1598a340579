"""Stage in moto: tables with streams, archive, and the deliveries of streams and bus."""

from __future__ import annotations

import gzip
import itertools
import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import boto3
from botocore.config import Config
from click.testing import CliRunner

from candor.champion import Champions, LoadBundle
from candor.clock import DAY, Clock, Deadline, FixedClock, SystemClock, format_rfc3339
from candor.contracts import PLATFORM, Application, Event, encode_event, parse_checkout
from candor.decide import Attempt, Decider
from candor.decision import Decision, decided
from candor.edge.bus import SOURCE
from candor.edge.streams import commit_line, decision_line
from candor.ingest import ingest
from candor.model.bundle import Bundle
from candor.store.dynamodb import DynamoDecisionStore, DynamoFeatureStore
from candor.updates import Retention
from cli.__main__ import candor
from lender import DEFINITIONS, REGULATION_PROFILE, policy
from tests.handlers.checkouts import SMALL, checkout

REGION = "us-east-1"
"""Region of the other tests: pynamodb keeps its connection for transactions."""

RETENTION = Retention(event_ids=20 * DAY)
OUTPUTS = {
    "RegistryTableName": "registry",
    "FeaturesTableName": "features",
    "SynchronousFeaturesTableName": "synchronous",
    "DecisionsTableName": "decisions",
    "ArchiveBucketName": "archive",
    "BundlesBucketName": "bundles",
    "TrainingBucketName": "training",
    "RetrainStateMachineArn": f"arn:aws:states:{REGION}:123456789012:stateMachine:retrain",
    "RescoreStateMachineArn": f"arn:aws:states:{REGION}:123456789012:stateMachine:rescore",
    "Promotion": "policy",
    "PromotionApproval": "none",
    "CanaryShares": "0.05,0.2,0.5",
    "RedeliveryHorizonDays": "20",
}
RETRAIN = json.dumps({"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}})
STREAMS = {"features": commit_line, "synchronous": commit_line, "decisions": decision_line}


def call(*words: str) -> Any:
    """Invoke a command of `candor features`, as from a terminal."""
    return called("features", *words)


def archived_line(event: Event, taken_at: int, source: str) -> bytes:
    """Archived line of an event; its envelope is timed by the producer at the event's own moment."""
    envelope = {
        "time": format_rfc3339(event.occurred_at),
        "source": source,
        "detail": json.loads(encode_event(event)),
    }
    return json.dumps({"ingestion_time": format_rfc3339(taken_at), "event": envelope}).encode()


def called(*words: str) -> Any:
    """Invoke any command, as from a terminal."""
    return CliRunner().invoke(candor, words)


class Deployed:
    """Deployed stage, filled as by services, customers and streams; create it inside `mock_aws`."""

    def __init__(self, **outputs: str) -> None:
        for table in ("registry", *STREAMS):
            boto3.client("dynamodb").create_table(
                TableName=table,
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
                StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
            )
        for bucket in ("archive", "bundles", "training"):
            boto3.client("s3").create_bucket(Bucket=bucket)
        boto3.client("s3").put_bucket_versioning(
            Bucket="archive", VersioningConfiguration={"Status": "Enabled"}
        )
        boto3.client("stepfunctions").create_state_machine(
            name="retrain", definition=RETRAIN, roleArn="arn:aws:iam::123456789012:role/retrain"
        )
        outputs_of_stack = {name: {"Value": value} for name, value in (OUTPUTS | outputs).items()}
        template = {"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}, "Outputs": outputs_of_stack}
        boto3.client("cloudformation").create_stack(
            StackName="candor-dev-storage", TemplateBody=json.dumps(template)
        )
        self.features, self.synchronous = DynamoFeatureStore("features"), DynamoFeatureStore("synchronous")
        self._read = dict.fromkeys(STREAMS, 0)
        self._objects = itertools.count(1)

    def happen(self, events: Sequence[Event], clock: Clock | None = None) -> None:
        """Archive events, as the bus does, and apply them, as the updater does."""
        self.archive_events(events)
        self.apply(events, clock)

    def apply(self, events: Sequence[Event], clock: Clock | None = None) -> None:
        outcome = ingest(
            events,
            DEFINITIONS,
            self.features,
            clock or SystemClock(),
            RETENTION,
            synchronous_store=self.synchronous,
        )
        assert not outcome.failed
        assert not outcome.refused

    def archive_events(
        self, events: Iterable[Event], taken_at: int | None = None, source: str = SOURCE
    ) -> None:
        self.put("events/", [archived_line(event, taken_at or event.moment + 5, source) for event in events])

    def decide(
        self,
        key: str,
        token: str = "cus_1",
        replay_at: int | None = None,
        clock: Clock | None = None,
        total: int = SMALL,
        bundle: Bundle | None = None,
    ) -> Decision:
        """Decide a checkout, by this bundle if one is given; the bus archives the decision's events."""
        clock = clock or FixedClock(SystemClock().now_ms())
        decider = Decider(
            definitions=DEFINITIONS,
            store=DynamoDecisionStore(
                "features", "decisions", lambda: (bundle and bundle.sha, {}), "synchronous"
            ),
            champions=Champions(DEFINITIONS, _shelf(bundle), clock, lambda sha, error: None),
            fallback_policy=policy(),
            regulation_profile=REGULATION_PROFILE,
            id_key=b"secret",
            clock=clock,
            retention_days=90,
            retention=RETENTION,
        )
        application = Application(parse_checkout(json.dumps(checkout(total, token=token)).encode()), "mer_1")
        decision = decider.decide(Attempt(application, key, replay_at), Deadline(60.0)).decision
        assert decision is not None
        self.archive_events([decided(decision, DEFINITIONS)], clock.now_ms() + 1_000, PLATFORM)
        return decision

    def deliver(self, *tables: str) -> None:
        """Deliver the streams' new records to the archive."""
        for table in tables or STREAMS:
            records = self.records(table)
            new = [record for record in records[self._read[table] :] if "NewImage" in record["dynamodb"]]
            self._read[table] = len(records)
            lines = [line for record in new if (line := STREAMS[table](record)) is not None]
            self.put("decisions/" if table == "decisions" else "commits/", lines)

    def put(self, prefix: str, lines: Sequence[bytes]) -> None:
        """Write an object of the archive."""
        key = f"{prefix}2026/11/24/08/stream-1-{next(self._objects):05}.gz"
        boto3.client("s3").put_object(Bucket="archive", Key=key, Body=gzip.compress(b"\n".join(lines)))

    def records(self, table: str) -> list[Any]:
        """Records of a table's stream, as Lambda passes them."""
        # moto does not know the endpoints that carry the account's number.
        client: Any = boto3.client("dynamodbstreams", config=Config(account_id_endpoint_mode="disabled"))
        [stream] = client.list_streams(TableName=table)["Streams"]
        described = client.describe_stream(StreamArn=stream["StreamArn"])["StreamDescription"]
        records: list[Any] = []
        for shard in described["Shards"]:
            position = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = client.get_shard_iterator(StreamArn=stream["StreamArn"], **position)["ShardIterator"]
            records += client.get_records(ShardIterator=iterator, Limit=1000)["Records"]
        return [{**record, "dynamodb": _plain(record["dynamodb"])} for record in records]


def _shelf(bundle: Bundle | None) -> LoadBundle:
    return lambda sha, timeout_s: bundle.to_bytes() if bundle else b""


def _plain(value: Any) -> Any:
    """Bytes as base64 text, as in Lambda's JSON."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return b64encode(value).decode() if isinstance(value, bytes) else value
