"""The states of a retraining, in JSONPath: what runs, what is retried, and who hears of a failure."""

from __future__ import annotations

from typing import Any, NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from stacks.constructs.function import HouseFunction
from stacks.constructs.sagemaker_jobs import SageMakerJobs
from stacks.settings import StageSettings

_SERVICE_ERRORS = ("SageMaker.AmazonSageMakerException", "ThrottlingException")


class RetrainingFunctions(NamedTuple):
    """The functions that a run calls, in the order of their steps."""

    prepare: HouseFunction
    register: HouseFunction
    promote: HouseFunction


def retraining(
    scope: Construct,
    *,
    functions: RetrainingFunctions,
    jobs: SageMakerJobs,
    notices: sns.Topic,
    settings: StageSettings,
) -> sfn.IChainable:
    """Input: run, as_of, seeds, promote. Every failure is published before the execution fails."""
    hours = settings.training_max_hours
    prepare = _call(scope, "PrepareTraining", functions.prepare, output_path="$.Payload")
    dataset = _job(scope, "BuildDataset", "createProcessingJob", jobs.dataset_job(), hours)
    train = _job(scope, "TrainModel", "createTrainingJob", jobs.training_job(), hours)
    register = _call(
        scope,
        "RegisterModel",
        functions.register,
        result_path="$.registration",
        result_selector={name + ".$": "$.Payload." + name for name in ("bundle", "passed", "metrics")},
    )
    failed = _notice(scope, "NotifyFailure", notices, "candor: a retraining failed", "$.error").next(
        sfn.Fail(scope, "RetrainFailed", error="RetrainFailed", cause="A step failed; see the notice")
    )
    for step in (prepare, dataset, train, register):
        step.add_catch(failed, errors=["States.ALL"], result_path="$.error")
    decision = _after_gate(scope, functions.promote, notices, failed, settings)
    return prepare.next(dataset).next(train).next(register).next(decision)


def _after_gate(
    scope: Construct, promote: HouseFunction, notices: sns.Topic, failed: sfn.Chain, settings: StageSettings
) -> sfn.Choice:
    done = sfn.Succeed(scope, "Succeeded")
    refused = _notice(scope, "NotifyGateFailed", notices, "candor: a model did not pass", "$.registration")
    refused.next(sfn.Fail(scope, "GateFailed", error="GateFailed", cause="The model did not pass its gate"))
    passed = sfn.Condition.boolean_equals("$.registration.passed", True)
    choice = sfn.Choice(scope, "Gate")
    if settings.promotion == "policy":
        champion = _call(
            scope,
            "PromoteModel",
            promote,
            payload=sfn.TaskInput.from_object(
                {
                    "bundle": sfn.JsonPath.string_at("$.registration.bundle"),
                    "by": sfn.JsonPath.format("policy:{}", sfn.JsonPath.string_at("$.run")),
                }
            ),
            result_path=sfn.JsonPath.DISCARD,
        )
        champion.add_catch(failed, errors=["States.ALL"], result_path="$.error")
        wanted = sfn.Condition.and_(passed, sfn.Condition.boolean_equals("$.promote", True))
        choice.when(wanted, champion.next(done))
    return choice.when(passed, done).otherwise(refused)


def _call(scope: Construct, name: str, function: HouseFunction, **kwargs: Any) -> tasks.LambdaInvoke:
    """A function's step: Lambda's own faults (by CDK) and a store that does not answer are tried again."""
    step = tasks.LambdaInvoke(
        scope,
        name,
        lambda_function=function,
        task_timeout=sfn.Timeout.duration(function.timeout or cdk.Duration.minutes(15)),
        **kwargs,
    )
    step.add_retry(errors=["StoreUnavailable"], interval=cdk.Duration.seconds(5), max_attempts=3)
    return step


def _job(scope: Construct, name: str, action: str, parameters: dict[str, Any], hours: int) -> sfn.CustomState:
    """A SageMaker job that the run waits for; its own failure is not retried, a refused call is."""
    state = sfn.CustomState(
        scope,
        name,
        state_json={
            "Type": "Task",
            "Resource": f"arn:{cdk.Aws.PARTITION}:states:::sagemaker:{action}.sync",
            "Parameters": parameters,
            "ResultPath": sfn.JsonPath.DISCARD,
            "TimeoutSeconds": hours * 3600 + 900,
        },
    )
    state.add_retry(
        errors=list(_SERVICE_ERRORS),
        interval=cdk.Duration.seconds(10),
        max_attempts=4,
        backoff_rate=2,
        jitter_strategy=sfn.JitterType.FULL,
    )
    return state


def _notice(scope: Construct, name: str, topic: sns.Topic, subject: str, path: str) -> tasks.SnsPublish:
    message = {
        "run": sfn.JsonPath.string_at("$$.Execution.Name"),
        "execution": sfn.JsonPath.string_at("$$.Execution.Id"),
        "detail": sfn.JsonPath.object_at(path),
    }
    return tasks.SnsPublish(
        scope,
        name,
        topic=topic,
        subject=subject,
        message=sfn.TaskInput.from_object(message),
        result_path=sfn.JsonPath.DISCARD,
    )
