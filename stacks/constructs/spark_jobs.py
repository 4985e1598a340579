"""Where training sets are computed that one machine is too small for: Spark, without a cluster to keep."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_emrserverless as emr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.retention import log_retention
from stacks.settings import StageSettings
from stacks.storage import StorageStack

RELEASE = "emr-spark-8.0.0"
"""Spark 4.0 with Python 3.13: the archive's groups need `applyInArrow`, and the packages are the training image's."""

CODE = "spark/"
"""Prefix of the training bucket that `scripts/spark-package` writes to."""


class SparkJobs(Construct):
    """An EMR Serverless application that stops by itself, the role of its jobs, and their log group.

    It costs nothing while no job runs. A job is `training.dataset` with `--engine spark`; docs/how-to/build-a-training-set.md
    has the command.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, settings: StageSettings, storage: StorageStack
    ) -> None:
        super().__init__(scope, construct_id)
        self._log_group = logs.LogGroup(
            self,
            "Logs",
            retention=log_retention(settings.log_retention_days),
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        self.application = emr.CfnApplication(
            self,
            "Application",
            name=f"candor-{settings.stage}",
            release_label=RELEASE,
            type="SPARK",
            architecture="X86_64",
            auto_start_configuration=emr.CfnApplication.AutoStartConfigurationProperty(enabled=True),
            auto_stop_configuration=emr.CfnApplication.AutoStopConfigurationProperty(
                enabled=True, idle_timeout_minutes=5
            ),
            maximum_capacity=emr.CfnApplication.MaximumAllowedResourcesProperty(
                cpu=f"{settings.spark_max_vcpu} vCPU", memory=f"{settings.spark_max_vcpu * 4} GB"
            ),
            monitoring_configuration=emr.CfnApplication.MonitoringConfigurationProperty(
                cloud_watch_logging_configuration=emr.CfnApplication.CloudWatchLoggingConfigurationProperty(
                    enabled=True, log_group_name=self._log_group.log_group_name
                )
            ),
        )
        self.role = self._role(storage.archive, storage.training)
        cdk.CfnOutput(
            self, "SparkApplicationId", value=self.application.attr_application_id
        ).override_logical_id("SparkApplicationId")
        cdk.CfnOutput(self, "SparkRoleArn", value=self.role.role_arn).override_logical_id("SparkRoleArn")

    def _role(self, archive: s3.IBucket, training: s3.IBucket) -> iam.Role:
        stack = cdk.Stack.of(self)
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "emr-serverless.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": stack.account}},
            ),
        )

        def allow(*actions: str, on: list[str]) -> None:
            role.add_to_policy(iam.PolicyStatement(actions=list(actions), resources=on))

        read = [archive.arn_for_objects("events/*"), archive.arn_for_objects("decisions/*")]
        allow("s3:GetObject", on=[*read, training.arn_for_objects(f"{CODE}*")])
        allow("s3:PutObject", on=[training.arn_for_objects("runs/*")])
        allow("s3:ListBucket", on=[archive.bucket_arn, training.bucket_arn])
        self._log_group.grant(role, "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams")
        allow("logs:DescribeLogGroups", on=["*"])  # EMR looks for the group by listing
        return role
