"""Everything that must survive: tables, buckets and the key that names decisions."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from stacks.constructs.bucket import HouseBucket
from stacks.constructs.retention import removal_policy
from stacks.settings import StageSettings

COLDER_DAYS = 90
"""What lies longer in the archive is read by an audit or a retraining at most."""


class StorageStack(cdk.Stack):
    """The stateful stack. Nothing in it is replaced by a deployment: tests pin its logical ids."""

    def __init__(
        self, scope: Construct, construct_id: str, *, settings: StageSettings, **kwargs: Any
    ) -> None:
        super().__init__(scope, construct_id, **kwargs)
        self._settings = settings
        both, new = dynamodb.StreamViewType.NEW_AND_OLD_IMAGES, dynamodb.StreamViewType.NEW_IMAGE
        self.features = self._table("Features", expires=True, stream=both)
        # Read with ConsistentRead, which BatchGetItem takes per table: views that are not stay half the price.
        self.synchronous_features = self._table("SynchronousFeatures", expires=True, stream=both)
        self.decisions = self._table("Decisions", expires=True, stream=new)
        self.registry = self._table("Registry")
        self.merchants = self._table("Merchants")
        self._buckets()
        self.decision_key = self._decision_key()
        self._outputs()

    def _table(
        self, name: str, *, expires: bool = False, stream: dynamodb.StreamViewType | None = None
    ) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            name,
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="ttl" if expires else None,
            stream=stream,
            removal_policy=removal_policy(self._settings),
            deletion_protection=self._settings.termination_protection,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=self._settings.point_in_time_recovery
            ),
        )

    def _buckets(self) -> None:
        settings, days = self._settings, cdk.Duration.days
        colder = s3.Transition(
            storage_class=s3.StorageClass.INFREQUENT_ACCESS, transition_after=days(COLDER_DAYS)
        )
        self.access_logs = HouseBucket(
            self, "AccessLogs", settings=settings, lifecycle=[s3.LifecycleRule(expiration=days(90))]
        )
        self.archive = HouseBucket(
            self,
            "Archive",
            settings=settings,
            access_logs=self.access_logs,
            versioned=True,
            lifecycle=[
                *(
                    s3.LifecycleRule(prefix=prefix, transitions=[colder])
                    for prefix in ("events/", "commits/")
                ),
                *(
                    s3.LifecycleRule(
                        prefix=prefix,
                        transitions=[colder] if settings.decision_retention_days > COLDER_DAYS else None,
                        expiration=days(settings.decision_retention_days),
                        noncurrent_version_expiration=days(1),
                    )
                    for prefix in ("decisions/", "shadows/")
                ),
                # An index object is deleted in all its versions; what a run that was cut short left goes here.
                s3.LifecycleRule(prefix="index/", noncurrent_version_expiration=days(1)),
                # A day's table goes when its decisions have: at the next compaction, and here if nobody compacts.
                *(
                    s3.LifecycleRule(prefix=prefix, expiration=kept, noncurrent_version_expiration=days(1))
                    for prefix, kept in (
                        ("tables/decisions/", days(settings.decision_retention_days)),
                        ("athena/", days(7)),
                    )
                ),
            ],
        )
        self.bundles = HouseBucket(
            self, "Bundles", settings=settings, access_logs=self.access_logs, versioned=True
        )
        kept = days(settings.training_retention_days)
        self.training = HouseBucket(
            self,
            "Training",
            settings=settings,
            access_logs=self.access_logs,
            lifecycle=[
                s3.LifecycleRule(prefix=prefix, expiration=kept)
                for prefix in ("runs/", "rescored/", "monitoring/")
            ],
        )

    def _decision_key(self) -> secretsmanager.Secret:
        """The key of the keyed hash that turns merchant and Idempotency-Key into a decision's id."""
        return secretsmanager.Secret(
            self,
            "DecisionKey",
            description="Names decisions; a new value would decide old idempotency keys again",
            generate_secret_string=secretsmanager.SecretStringGenerator(
                password_length=64, exclude_punctuation=True
            ),
            removal_policy=removal_policy(self._settings),
        )

    def _outputs(self) -> None:
        values = {
            "FeaturesTableName": self.features.table_name,
            "SynchronousFeaturesTableName": self.synchronous_features.table_name,
            "DecisionsTableName": self.decisions.table_name,
            "RegistryTableName": self.registry.table_name,
            "MerchantsTableName": self.merchants.table_name,
            "ArchiveBucketName": self.archive.bucket_name,
            "BundlesBucketName": self.bundles.bucket_name,
            "TrainingBucketName": self.training.bucket_name,
            # A backfill needs it: what is older cannot be delivered again.
            "RedeliveryHorizonDays": str(self._settings.redelivery_horizon_days),
        }
        for name, value in values.items():
            cdk.CfnOutput(self, name, value=value)
