"""SageMaker: the image's repository, the jobs' role and parameters, and the permission to start them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from stacks.constructs.retention import removal_policy
from stacks.constructs.roles import allow, allow_sagemaker_job
from stacks.stage import StageConstruct
from stacks.storage import StorageStack

PROCESSING = "/opt/ml/processing"


class SageMakerJobDefinitions(StageConstruct):
    """The image's repository, the jobs' role, the group of model packages and the parameters of each job.

    The image is named by repository and tag, so that synthesis needs no Docker; it must be pushed before the first
    retraining, and a tag is never reused.
    """

    def __init__(self, scope: Construct, construct_id: str, *, storage: StorageStack) -> None:
        super().__init__(scope, construct_id)
        settings = self._settings
        self.prefix = f"candor-{settings.stage}-"
        self.repository = ecr.Repository(
            self,
            "Images",
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            removal_policy=removal_policy(settings),
        )
        self.packages = sagemaker.CfnModelPackageGroup(
            self,
            "Packages",
            model_package_group_name=f"candor-{settings.stage}",
            model_package_group_description="Bundles by their lineage; what serves is in candor's registry",
        )
        self.packages.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
        self.image = self.repository.repository_uri_for_tag(settings.training_image_tag)
        self.role = self._create_role(storage)

    def _create_role(self, storage: StorageStack) -> iam.Role:
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
        archive, training = storage.archive, storage.training
        read = [archive.arn_for_objects(f"{prefix}/*") for prefix in ("events", "decisions")]
        allow(role, "s3:GetObject", on=read)
        written = [training.arn_for_objects(f"{prefix}/*") for prefix in ("runs", "rescored")]
        allow(role, "s3:GetObject", "s3:PutObject", on=written)
        allow(role, "s3:ListBucket", on=[archive.bucket_arn, training.bucket_arn])
        namespaces = ["/aws/sagemaker/TrainingJobs", "/aws/sagemaker/ProcessingJobs"]
        allow_sagemaker_job(role, self.repository, namespaces)
        return role

    def dataset_job(self) -> dict[str, Any]:
        """Parameters of CreateProcessingJob: archived events → data set (JSONPath on the run's state)."""
        return {
            "ProcessingJobName.$": "$.steps.dataset.job",
            "RoleArn": self.role.role_arn,
            "AppSpecification": {
                "ImageUri": self.image,
                "ContainerEntrypoint": ["python", "-m", "training.dataset"],
                "ContainerArguments.$": "States.Array('--as-of', $.as_of, '--run', $.run)",
            },
            "ProcessingInputs": [_processing_input("archive", "$.archive_uri")],
            "ProcessingOutputConfig": {"Outputs": [_processing_output("dataset", "$.dataset_uri")]},
            "ProcessingResources": {"ClusterConfig": self._cluster()},
            "StoppingCondition": {"MaxRuntimeInSeconds": self._max_seconds},
            "NetworkConfig": {"EnableNetworkIsolation": True},
        }

    def training_job(self) -> dict[str, Any]:
        """Parameters of CreateTrainingJob: data set, released policy → model.tar.gz (JSONPath on the run's state)."""
        return {
            "TrainingJobName.$": "$.steps.train.job",
            "RoleArn": self.role.role_arn,
            "AlgorithmSpecification": {
                "TrainingImage": self.image,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python", "-m", "training.fit"],
            },
            "HyperParameters": {"run.$": "$.run", "as_of.$": "$.as_of", "seeds.$": "$.seeds"},
            "InputDataConfig": [_training_input(name) for name in ("dataset", "policy")],
            "OutputDataConfig": {"S3OutputPath.$": "$.model_uri"},
            "ResourceConfig": self._cluster(),
            "StoppingCondition": {"MaxRuntimeInSeconds": self._max_seconds},
            "EnableNetworkIsolation": True,
        }

    def assess_job(self) -> dict[str, Any]:
        """Parameters of CreateProcessingJob: data set, model, champion → evaluation (JSONPath on the run's state)."""
        inputs = {"dataset": "$.dataset_uri", "model": "$.packed_uri", "champion": "$.champion_uri"}
        return {
            "ProcessingJobName.$": "$.steps.assess.job",
            "RoleArn": self.role.role_arn,
            "AppSpecification": {
                "ImageUri": self.image,
                "ContainerEntrypoint": ["python", "-m", "training.evaluate"],
                "ContainerArguments.$": "States.Array('--run', $.run)",
            },
            "ProcessingInputs": [_processing_input(name, path) for name, path in inputs.items()],
            "ProcessingOutputConfig": {"Outputs": [_processing_output("evaluation", "$.evaluation_uri")]},
            "ProcessingResources": {"ClusterConfig": self._cluster()},
            "StoppingCondition": {"MaxRuntimeInSeconds": self._max_seconds},
            "NetworkConfig": {"EnableNetworkIsolation": True},
        }

    def rescoring_job(self) -> dict[str, Any]:
        """Parameters of CreateProcessingJob: a day of decisions, an order → Parquet (JSONPath on a map item)."""
        inputs = {"decisions": "$.decisions_uri", "order": "$.order_uri"}
        return {
            "ProcessingJobName.$": "$.job",
            "RoleArn": self.role.role_arn,
            "AppSpecification": {
                "ImageUri": self.image,
                "ContainerEntrypoint": ["python", "-m", "history.rescore.rescoring"],
                "ContainerArguments.$": "$.arguments",
            },
            "ProcessingInputs": [_processing_input(name, path) for name, path in inputs.items()],
            "ProcessingOutputConfig": {"Outputs": [_processing_output("rescored", "$.rescored_uri")]},
            "ProcessingResources": {"ClusterConfig": self._cluster()},
            "StoppingCondition": {"MaxRuntimeInSeconds": self._max_seconds},
            "NetworkConfig": {"EnableNetworkIsolation": True},
        }

    @property
    def _max_seconds(self) -> int:
        return self._settings.training_max_hours * 3600

    def _cluster(self) -> Mapping[str, Any]:
        return {
            "InstanceCount": 1,
            "InstanceType": self._settings.training_instance,
            "VolumeSizeInGB": self._settings.training_volume_gb,
        }

    def grant_run(self, machine: sfn.StateMachine, kinds: Sequence[str] = ("Processing", "Training")) -> None:
        """Let `machine` run these jobs and wait for them, and pass them this role only."""
        for kind in kinds:
            machine.add_to_role_policy(self._run_statement(kind))
            rule = f"StepFunctionsGetEventsForSageMaker{kind}JobsRule"
            machine.add_to_role_policy(
                iam.PolicyStatement(
                    actions=["events:DescribeRule", "events:PutRule", "events:PutTargets"],
                    resources=[self._arn("events", "rule", rule)],
                )
            )
        machine.add_to_role_policy(
            iam.PolicyStatement(
                actions=["iam:PassRole"],
                resources=[self.role.role_arn],
                conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            )
        )

    def _run_statement(self, kind: str) -> iam.PolicyStatement:
        # .sync tags the job with its execution: without AddTags the call is denied at run time.
        verbs = (f"Create{kind}Job", f"Describe{kind}Job", f"Stop{kind}Job", "AddTags")
        resource = self._arn("sagemaker", f"{kind.lower()}-job", f"{self.prefix}*")
        return iam.PolicyStatement(actions=[f"sagemaker:{verb}" for verb in verbs], resources=[resource])

    @property
    def package_arns(self) -> list[str]:
        """The ARNs of the group of model packages and of every version in it."""
        group = self.packages.model_package_group_name
        return [
            self._arn("sagemaker", "model-package-group", group),
            self._arn("sagemaker", "model-package", f"{group}/*"),
        ]

    def job_arns(self) -> list[str]:
        """The ARNs of every processing and training job of this stage."""
        return [
            self._arn("sagemaker", f"{kind}-job", f"{self.prefix}*") for kind in ("processing", "training")
        ]

    def _arn(self, service: str, resource: str, name: str) -> str:
        return self._stack.format_arn(service=service, resource=resource, resource_name=name)


def _processing_input(name: str, path: str) -> dict[str, Any]:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri.$": path,
            "LocalPath": f"{PROCESSING}/input/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
        },
    }


def _processing_output(name: str, path: str) -> dict[str, Any]:
    return {
        "OutputName": name,
        "S3Output": {
            "S3Uri.$": path,
            "LocalPath": f"{PROCESSING}/output/{name}",
            "S3UploadMode": "EndOfJob",
        },
    }


def _training_input(name: str) -> dict[str, Any]:
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri.$": f"$.{name}_uri",
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "InputMode": "File", "DataSource": {"S3DataSource": source}}
