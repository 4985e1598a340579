"""The stateful resources: tables, buckets and the key of decision ids."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from stacks.constructs.bucket import HouseBucket
from stacks.constructs.retention import removal_policy
from stacks.settings import StageSettings
from stacks.stage import StageStack

COLDER_DAYS = 90
"""Archive objects older than this are read by audits and retrainings only."""


class StorageStack(StageStack):
    """The data of a stage. No deployment replaces a resource in it: tests pin the logical ids."""

    unit = "storage"

    def __init__(self, scope: Construct, settings: StageSettings) -> None:
        super().__init__(scope, settings)
        both, new = dynamodb.StreamViewType.NEW_AND_OLD_IMAGES, dynamodb.StreamViewType.NEW_IMAGE
        self.features = self._table("Features", expires=True, stream=both)
        # BatchGetItem takes ConsistentRead per table: views outside this one are read at half the price.
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
            removal_policy=removal_policy(self.settings),
            deletion_protection=self.settings.termination_protection,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=self.settings.point_in_time_recovery
            ),
        )

    def _buckets(self) -> None:
        settings, days = self.settings, cdk.Duration.days
        colder = s3.Transition(
            storage_class=s3.StorageClass.INFREQUENT_ACCESS, transition_after=days(COLDER_DAYS)
        )
        self.access_logs = HouseBucket(self, "AccessLogs", lifecycle=[s3.LifecycleRule(expiration=days(90))])
        self.archive = HouseBucket(
            self,
            "Archive",
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
                # The indexer deletes an object in all its versions; this rule removes what an interrupted run left.
                s3.LifecycleRule(prefix="index/", noncurrent_version_expiration=days(1)),
                # A day's table expires with its decisions: at the next compaction, or by this rule without one.
                *(
                    s3.LifecycleRule(prefix=prefix, expiration=age, noncurrent_version_expiration=days(1))
                    for prefix, age in (
                        ("tables/decisions/", days(settings.decision_retention_days)),
                        ("athena/", days(7)),
                    )
                ),
            ],
        )
        self.bundles = HouseBucket(self, "Bundles", access_logs=self.access_logs, versioned=True)
        retention = days(settings.training_retention_days)
        self.training = HouseBucket(
            self,
            "Training",
            access_logs=self.access_logs,
            lifecycle=[
                s3.LifecycleRule(prefix=prefix, expiration=retention)
                for prefix in ("runs/", "rescored/", "monitoring/")
            ],
        )

    def _decision_key(self) -> secretsmanager.Secret:
        """The HMAC key that derives a decision's id from merchant and Idempotency-Key."""
        return secretsmanager.Secret(
            self,
            "DecisionKey",
            description="Names decisions; a new value would decide old idempotency keys again",
            generate_secret_string=secretsmanager.SecretStringGenerator(
                password_length=64, exclude_punctuation=True
            ),
            removal_policy=removal_policy(self.settings),
        )

    def _outputs(self) -> None:
        self.add_outputs(
            FeaturesTableName=self.features.table_name,
            SynchronousFeaturesTableName=self.synchronous_features.table_name,
            DecisionsTableName=self.decisions.table_name,
            RegistryTableName=self.registry.table_name,
            MerchantsTableName=self.merchants.table_name,
            ArchiveBucketName=self.archive.bucket_name,
            BundlesBucketName=self.bundles.bucket_name,
            TrainingBucketName=self.training.bucket_name,
            # For backfills: an older event cannot be delivered again.
            RedeliveryHorizonDays=str(self.settings.redelivery_horizon_days),
        )
