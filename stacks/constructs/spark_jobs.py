"""Spark without a cluster, for training sets that are too large for one machine."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_emrserverless as emr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.log_group import HouseLogGroup
from stacks.constructs.roles import allow, service_role
from stacks.stage import StageConstruct
from stacks.storage import StorageStack

RELEASE = "emr-spark-8.0.0"
"""Spark 4.0 with Python 3.13: grouping needs `applyInArrow`, and the packages are the training image's."""

CODE = "spark/"
"""Prefix of the training bucket for the files of `scripts/spark-package`."""


class SparkJobs(StageConstruct):
    """An EMR Serverless application that stops when idle, the role of its jobs, and their log group.

    It costs nothing while no job runs. A job is `training.dataset` with `--engine spark`: see
    docs/how-to/build-a-training-set.md.
    """

    def __init__(self, scope: Construct, construct_id: str, *, storage: StorageStack) -> None:
        super().__init__(scope, construct_id)
        settings = self._settings
        self._log_group = HouseLogGroup(self, "Logs")
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
        self.role = self._create_role(storage.archive, storage.training)
        cdk.CfnOutput(
            self, "SparkApplicationId", value=self.application.attr_application_id
        ).override_logical_id("SparkApplicationId")
        cdk.CfnOutput(self, "SparkRoleArn", value=self.role.role_arn).override_logical_id("SparkRoleArn")

    def _create_role(self, archive: s3.IBucket, training: s3.IBucket) -> iam.Role:
        role = service_role(self, "Role", "emr-serverless")
        read = [archive.arn_for_objects("events/*"), archive.arn_for_objects("decisions/*")]
        allow(role, "s3:GetObject", on=[*read, training.arn_for_objects(f"{CODE}*")])
        allow(role, "s3:PutObject", on=[training.arn_for_objects("runs/*")])
        allow(role, "s3:ListBucket", on=[archive.bucket_arn, training.bucket_arn])
        self._log_group.grant(role, "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams")
        allow(role, "logs:DescribeLogGroups", on=["*"])  # EMR finds the group by listing
        return role
