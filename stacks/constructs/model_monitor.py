"""The champion's monitoring report by schedule: one SageMaker job that reads, writes a page and metrics, and changes nothing."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from stacks.constructs.sagemaker_jobs import PROCESSING, SageMakerJobs
from stacks.settings import StageSettings
from stacks.storage import StorageStack

MAX_HOURS = 2


class ModelMonitor(Construct):
    """Schedule, job and their two roles. Without a schedule in the settings it stands by, disabled.

    Scheduler starts the job itself: there is nothing to wait for, and a day's report that failed is the next day's as well.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: StageSettings,
        storage: StorageStack,
        jobs: SageMakerJobs,
    ) -> None:
        super().__init__(scope, construct_id)
        self._settings, self._storage, self._jobs = settings, storage, jobs
        self._prefix = f"candor-{settings.stage}-monitor-"
        self._job_role = self._reader()
        self._starter = self._scheduler_role()
        scheduler.CfnSchedule(
            self,
            "Schedule",
            schedule_expression=settings.monitor_schedule or "rate(1 day)",
            schedule_expression_timezone="UTC",
            state="ENABLED" if settings.monitor_schedule else "DISABLED",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=f"arn:{cdk.Aws.PARTITION}:scheduler:::aws-sdk:sagemaker:createProcessingJob",
                role_arn=self._starter.role_arn,
                input=cdk.Stack.of(self).to_json_string(self._job()),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=3600, maximum_retry_attempts=3
                ),
            ),
        )

    def _job(self) -> dict[str, Any]:
        """CreateProcessingJob; Scheduler fills in what stands in angle brackets."""
        storage = self._storage
        output = {
            "S3Uri": f"s3://{storage.training.bucket_name}/monitoring/<aws.scheduler.scheduled-time>",
            "LocalPath": f"{PROCESSING}/output/monitoring",
            "S3UploadMode": "EndOfJob",
        }
        return {
            "ProcessingJobName": f"{self._prefix}<aws.scheduler.execution-id>",
            "RoleArn": self._job_role.role_arn,
            "AppSpecification": {
                "ImageUri": self._jobs.image,
                "ContainerEntrypoint": ["python", "-m", "training.monitoring"],
            },
            "Environment": {
                "STAGE": self._settings.stage,
                "REGISTRY_TABLE": storage.registry.table_name,
                "BUNDLES_BUCKET": storage.bundles.bucket_name,
                "TRAINING_BUCKET": storage.training.bucket_name,
                "ARCHIVE_BUCKET": storage.archive.bucket_name,
            },
            "ProcessingOutputConfig": {"Outputs": [{"OutputName": "monitoring", "S3Output": output}]},
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceCount": 1,
                    "InstanceType": self._settings.training_instance,
                    "VolumeSizeInGB": self._settings.training_volume_gb,
                }
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": MAX_HOURS * 3600},
        }

    def _reader(self) -> iam.Role:
        role = iam.Role(self, "JobRole", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
        storage = self._storage
        archive, training = storage.archive, storage.training
        _allow(
            role, "s3:GetObject", on=[archive.arn_for_objects(f"{one}/*") for one in ("events", "decisions")]
        )
        _allow(role, "s3:GetObject", on=[storage.bundles.arn_for_objects("bundles/*")])
        _allow(role, "s3:GetObject", on=[training.arn_for_objects("runs/*")])
        _allow(role, "s3:PutObject", on=[training.arn_for_objects("monitoring/*")])
        _allow(role, "s3:ListBucket", on=[archive.bucket_arn, training.bucket_arn])
        _allow(role, "dynamodb:GetItem", on=[storage.registry.table_arn])
        group = cdk.Stack.of(self).format_arn(
            service="logs",
            resource="log-group",
            resource_name="/aws/sagemaker/*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        verbs = ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents")
        _allow(role, *(f"logs:{verb}" for verb in verbs), on=[group])
        namespaces = {"cloudwatch:namespace": ["Candor", "/aws/sagemaker/ProcessingJobs"]}
        _allow(role, "cloudwatch:PutMetricData", on=["*"], StringEquals=namespaces)
        self._jobs.repository.grant_pull(role)
        return role

    def _scheduler_role(self) -> iam.Role:
        account = {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}
        role = iam.Role(
            self,
            "StarterRole",
            assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com", conditions=account),
        )
        stack = cdk.Stack.of(self)
        mine = stack.format_arn(
            service="sagemaker", resource="processing-job", resource_name=f"{self._prefix}*"
        )
        _allow(role, "sagemaker:CreateProcessingJob", on=[mine])
        passed = {"iam:PassedToService": "sagemaker.amazonaws.com"}
        _allow(role, "iam:PassRole", on=[self._job_role.role_arn], StringEquals=passed)
        return role


def _allow(role: iam.Role, *actions: str, on: list[str], **conditions: Any) -> None:
    role.add_to_policy(
        iam.PolicyStatement(actions=list(actions), resources=on, conditions=conditions or None)
    )
