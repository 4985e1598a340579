"""Retraining: data set, training, evaluation, gates, promotion where the policy allows it, and the guard after it."""

from __future__ import annotations

import json
from dataclasses import asdict

import aws_cdk as cdk
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from stacks.constructs.function import HouseFunction
from stacks.constructs.log_group import HouseLogGroup
from stacks.constructs.rescoring import rescoring
from stacks.constructs.retraining import RetrainingFunctions, retraining
from stacks.constructs.sagemaker_jobs import SageMakerJobDefinitions
from stacks.constructs.schedules import Schedules
from stacks.constructs.spark_jobs import SparkJobs
from stacks.settings import StageSettings
from stacks.stage import StageStack
from stacks.storage import StorageStack


class TrainingStack(StageStack):
    """The retraining state machine with its jobs, functions and failure notices; rescoring; the guard of models."""

    unit = "training"

    def __init__(self, scope: Construct, settings: StageSettings, *, storage: StorageStack) -> None:
        super().__init__(scope, settings)
        self.jobs = SageMakerJobDefinitions(self, "Jobs", storage=storage)
        SparkJobs(self, "Spark", storage=storage)
        self.notices = sns.Topic(self, "RetrainNotices", enforce_ssl=True)
        self.prepare_training = self._prepare_training(storage)
        self.register_model = self._register_model(storage)
        self.promote_model = self._promote_model(storage)
        self.guard_models = self._guard_models(storage)
        self.retrain = self._state_machine()
        self.rescore = self._rescoring()
        Schedules(self, "Schedules", machine=self.retrain, guard=self.guard_models)
        self._outputs()

    def _function(self, construct_id: str, name: str, *, timeout_s: int, **environment: str) -> HouseFunction:
        layers = [self.layers.core, self.layers.runtime]
        if name == "register_model":  # it compares a bundle with the lender's definitions
            layers.append(self.layers.lender)
        return HouseFunction(
            self,
            construct_id,
            name=name,
            layers=layers,
            timeout_s=timeout_s,
            environment=environment,
        )

    def _prepare_training(self, storage: StorageStack) -> HouseFunction:
        function = self._function(
            "PrepareTraining",
            "prepare_training",
            timeout_s=60,
            ARCHIVE_BUCKET=storage.archive.bucket_name,
            TRAINING_BUCKET=storage.training.bucket_name,
            BUNDLES_BUCKET=storage.bundles.bucket_name,
            REGISTRY_TABLE=storage.registry.table_name,
            JOB_PREFIX=self.jobs.prefix,
        )
        function.allow("s3:GetObject", "s3:PutObject", on=storage.training.arn_for_objects("runs/*"))
        function.allow("s3:ListBucket", on=storage.training.bucket_arn)
        function.allow("s3:GetObject", on=storage.bundles.arn_for_objects("bundles/*"))
        function.allow("s3:GetObject", on=storage.bundles.arn_for_objects("policies/*"))
        function.allow("dynamodb:GetItem", on=storage.registry.table_arn)
        processing, training = self.jobs.job_arns()
        function.allow("sagemaker:DescribeProcessingJob", on=processing)
        function.allow("sagemaker:DescribeTrainingJob", on=training)
        return function

    def _register_model(self, storage: StorageStack) -> HouseFunction:
        function = self._function(
            "RegisterModel",
            "register_model",
            timeout_s=300,
            BUNDLES_BUCKET=storage.bundles.bucket_name,
            REGISTRY_TABLE=storage.registry.table_name,
            TRAINING_BUCKET=storage.training.bucket_name,
            GATES=json.dumps(asdict(self.settings.gates), sort_keys=True),
            MODEL_PACKAGE_GROUP=self.jobs.packages.model_package_group_name,
            TRAINING_IMAGE=self.jobs.image,
        )
        function.allow("s3:GetObject", on=storage.training.arn_for_objects("runs/*"))
        function.allow("s3:ListBucket", on=storage.training.bucket_arn)
        function.allow("s3:PutObject", on=storage.bundles.arn_for_objects("bundles/*"))
        function.allow("dynamodb:GetItem", "dynamodb:PutItem", on=storage.registry.table_arn)
        function.allow("sagemaker:CreateModelPackage", on=self.jobs.package_arns)
        return function

    def _promote_model(self, storage: StorageStack) -> HouseFunction:
        function = self._function(
            "PromoteModel",
            "promote_model",
            timeout_s=60,
            REGISTRY_TABLE=storage.registry.table_name,
            BUNDLES_BUCKET=storage.bundles.bucket_name,
            APPROVAL=self.settings.approval,
        )
        function.allow("dynamodb:GetItem", "dynamodb:PutItem", on=storage.registry.table_arn)
        function.allow("s3:GetObject", on=storage.bundles.arn_for_objects("bundles/*"))
        return function

    def _guard_models(self, storage: StorageStack) -> HouseFunction:
        function = self._function(
            "GuardModels",
            "guard_models",
            timeout_s=60,
            REGISTRY_TABLE=storage.registry.table_name,
            NOTICES_TOPIC=self.notices.topic_arn,
            GUARD=json.dumps(asdict(self.settings.guard), sort_keys=True),
        )
        function.allow("dynamodb:GetItem", "dynamodb:PutItem", on=storage.registry.table_arn)
        function.allow("cloudwatch:GetMetricData", on="*")
        function.allow("sns:Publish", on=self.notices.topic_arn)
        return function

    def _state_machine(self) -> sfn.StateMachine:
        functions = RetrainingFunctions(self.prepare_training, self.register_model, self.promote_model)
        definition = retraining(
            Construct(self, "Steps"),
            functions=functions,
            jobs=self.jobs,
            notices=self.notices,
            settings=self.settings,
        )
        # Each of the three jobs may use its maximum twice before the run fails.
        machine = self._machine("Retrain", definition, 6 * self.settings.training_max_hours + 2)
        self.jobs.grant_run(machine)
        return machine

    def _rescoring(self) -> sfn.StateMachine:
        hours = self.settings.training_max_hours
        definition = rescoring(Construct(self, "Rescoring"), jobs=self.jobs, hours=hours)
        machine = self._machine("Rescore", definition, 24 * hours)
        self.jobs.grant_run(machine, ["Processing"])
        return machine

    def _machine(self, name: str, definition: sfn.IChainable, hours: int) -> sfn.StateMachine:
        return sfn.StateMachine(
            self,
            name,
            definition_body=sfn.DefinitionBody.from_chainable(definition),
            query_language=sfn.QueryLanguage.JSON_PATH,
            timeout=cdk.Duration.hours(hours),
            tracing_enabled=True,
            logs=sfn.LogOptions(
                destination=HouseLogGroup(
                    self,
                    f"{name}Logs",
                    # Groups under /aws/vendedlogs need no resource policy of their own.
                    name=f"/aws/vendedlogs/states/candor-{self.settings.stage}-{name.lower()}",
                ),
                level=sfn.LogLevel.ALL,
            ),
        )

    def _outputs(self) -> None:
        self.add_outputs(
            RetrainStateMachineArn=self.retrain.state_machine_arn,
            RescoreStateMachineArn=self.rescore.state_machine_arn,
            # `candor models` and `candor retrain` read these rules of the stage.
            Promotion=self.settings.promotion,
            PromotionApproval=self.settings.approval,
            CanaryShares=",".join(f"{share:g}" for share in self.settings.canary_shares),
        )
