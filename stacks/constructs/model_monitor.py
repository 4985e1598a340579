"""The champion's monitoring report on a schedule: one read-only SageMaker job that writes a page and metrics."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.roles import allow, allow_sagemaker_job, service_role
from stacks.constructs.sagemaker_jobs import PROCESSING, SageMakerJobDefinitions
from stacks.constructs.schedule import HouseSchedule
from stacks.stage import StageConstruct
from stacks.storage import StorageStack

MAX_HOURS = 2


class ModelMonitor(StageConstruct):
    """Schedule, job and their two roles; disabled without a schedule in the settings.

    Scheduler starts the job directly: nothing waits for it, and the next day's report also covers a failed one.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        storage: StorageStack,
        jobs: SageMakerJobDefinitions,
    ) -> None:
        super().__init__(scope, construct_id)
        self._storage, self._jobs = storage, jobs
        self._prefix = f"candor-{self._settings.stage}-monitor-"
        self._job_role = self._create_job_role()
        schedule = self._settings.monitor_schedule
        HouseSchedule(
            self,
            "Schedule",
            expression=schedule or "rate(1 day)",
            target_arn=f"arn:{cdk.Aws.PARTITION}:scheduler:::aws-sdk:sagemaker:createProcessingJob",
            role=self._create_starter_role(),
            payload=self._stack.to_json_string(self._job()),
            enabled=schedule is not None,
        )

    def _job(self) -> dict[str, Any]:
        """The parameters of CreateProcessingJob; Scheduler replaces its variables in angle brackets."""
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

    def _create_job_role(self) -> iam.Role:
        role = iam.Role(self, "JobRole", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
        storage = self._storage
        archive, training = storage.archive, storage.training
        read = [archive.arn_for_objects(f"{prefix}/*") for prefix in ("events", "decisions")]
        allow(role, "s3:GetObject", on=read)
        allow(role, "s3:GetObject", on=[storage.bundles.arn_for_objects("bundles/*")])
        allow(role, "s3:GetObject", on=[training.arn_for_objects("runs/*")])
        allow(role, "s3:PutObject", on=[training.arn_for_objects("monitoring/*")])
        allow(role, "s3:ListBucket", on=[archive.bucket_arn, training.bucket_arn])
        allow(role, "dynamodb:GetItem", on=[storage.registry.table_arn])
        allow_sagemaker_job(role, self._jobs.repository, ["Candor", "/aws/sagemaker/ProcessingJobs"])
        return role

    def _create_starter_role(self) -> iam.Role:
        role = service_role(self, "StarterRole", "scheduler")
        jobs = self._stack.format_arn(
            service="sagemaker", resource="processing-job", resource_name=f"{self._prefix}*"
        )
        allow(role, "sagemaker:CreateProcessingJob", on=[jobs])
        service = {"iam:PassedToService": "sagemaker.amazonaws.com"}
        allow(role, "iam:PassRole", on=[self._job_role.role_arn], StringEquals=service)
        return role
