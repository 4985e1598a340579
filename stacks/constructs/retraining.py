"""The states of a retraining, in JSONPath: jobs, retries, gate, promotion and failure notices."""

from __future__ import annotations

from typing import Any, NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from stacks.constructs.function import HouseFunction
from stacks.constructs.sagemaker_jobs import SageMakerJobDefinitions
from stacks.settings import StageSettings

_ATTEMPTS = 3
"""Attempts of a step within one execution."""

_TRANSIENT_CAUSES = ("InternalServerError", "CapacityError", "ServiceUnavailable", "already exists")
"""Fragments of SageMaker's causes of transient failures; the last one when another execution was faster."""

_SERVICE_ERRORS = ("SageMaker.AmazonSageMakerException", "ThrottlingException")


class RetrainingFunctions(NamedTuple):
    """The functions of a run, in the order of their steps."""

    prepare: HouseFunction
    register: HouseFunction
    promote: HouseFunction


def retraining(
    scope: Construct,
    *,
    functions: RetrainingFunctions,
    jobs: SageMakerJobDefinitions,
    notices: sns.Topic,
    settings: StageSettings,
) -> sfn.IChainable:
    """The states. Input: run, as_of, seeds, promote. Steps that the run has completed are skipped.

    Every failure is published with its cause before the execution fails.
    """
    hours = settings.training_max_hours
    failed = _notice(scope, "NotifyFailure", notices, "candor: a retraining failed", "$.error").next(
        sfn.Fail(scope, "RetrainFailed", error="RetrainFailed", cause="A step failed; see the notice")
    )
    prepare = _call(scope, "PrepareTraining", functions.prepare, output_path="$.Payload")
    # A job may outlive the execution that started it.
    minute = cdk.Duration.minutes(1)
    prepare.add_retry(errors=["StepUnderWay"], interval=minute, backoff_rate=1, max_attempts=hours * 60 + 15)
    register = _call(
        scope,
        "RegisterModel",
        functions.register,
        result_path="$.registration",
        result_selector={
            name + ".$": "$.Payload." + name
            for name in ("bundle", "passed", "compared", "champion", "metrics", "refused", "policy")
        },
    )
    for call in (prepare, register):
        call.add_catch(failed, errors=["States.ALL"], result_path="$.error")
    again = _retry_job(scope, prepare, failed)
    following: sfn.IChainable = register
    for step in reversed(_jobs(scope, jobs, hours)):
        step.job.add_catch(again, errors=["States.ALL"], result_path="$.error")
        step.job.next(following)
        done = sfn.Choice(scope, step.choice)
        following = done.when(_is_true(f"$.steps.{step.name}.done"), following).otherwise(step.job)
    prepare.next(following)
    register.next(_after_gate(scope, functions.promote, notices, failed, settings))
    return prepare


class _Job(NamedTuple):
    """A step that is a SageMaker job: its name in the run's state, its Choice state and its Task state."""

    name: str
    choice: str
    job: sfn.CustomState


def _jobs(scope: Construct, jobs: SageMakerJobDefinitions, hours: int) -> list[_Job]:
    steps = {
        "dataset": ("DatasetBuilt", "BuildDataset", "createProcessingJob", jobs.dataset_job()),
        "train": ("ModelTrained", "TrainModel", "createTrainingJob", jobs.training_job()),
        "assess": ("ModelEvaluated", "EvaluateModel", "createProcessingJob", jobs.assess_job()),
    }
    return [
        _Job(name, choice, job_state(scope, state, action, parameters, hours))
        for name, (choice, state, action, parameters) in steps.items()
    ]


def _retry_job(scope: Construct, prepare: sfn.INextable, failed: sfn.Chain) -> sfn.Choice:
    """Retry a job that failed transiently, under its next name and after a wait that doubles."""
    cause = "$.error.Cause"
    transient = [sfn.Condition.string_matches(cause, f"*{text}*") for text in _TRANSIENT_CAUSES]
    retryable = sfn.Condition.and_(
        sfn.Condition.is_present(cause),
        sfn.Condition.number_less_than("$.attempt", _ATTEMPTS),
        sfn.Condition.or_(*transient),
    )
    again = sfn.Pass(
        scope,
        "KeepOrder",
        parameters={"run": sfn.JsonPath.string_at("$.run"), "promote": sfn.JsonPath.object_at("$.promote")},
    )
    wait = sfn.Wait(scope, "WaitBeforeRetry", time=sfn.WaitTime.seconds_path("$.wait_s"))
    wait.next(again)
    again.next(prepare)  # type: ignore[arg-type] # a state, and the start of the machine
    return sfn.Choice(scope, "WorthAnotherTry").when(retryable, wait).otherwise(failed)


def _is_true(path: str) -> sfn.Condition:
    return sfn.Condition.boolean_equals(path, True)


def _after_gate(
    scope: Construct, promote: HouseFunction, notices: sns.Topic, failed: sfn.Chain, settings: StageSettings
) -> sfn.Choice:
    done = sfn.Succeed(scope, "Succeeded")
    refused = _notice(scope, "NotifyGateFailed", notices, "candor: a model did not pass", "$.registration")
    refused.next(sfn.Fail(scope, "GateFailed", error="GateFailed", cause="The model did not pass its gate"))
    passed = _is_true("$.registration.passed")
    choice = sfn.Choice(scope, "Gate")
    if settings.promotion == "policy":
        champion = _call(
            scope,
            "PromoteModel",
            promote,
            payload=sfn.TaskInput.from_object(
                {
                    "bundle": sfn.JsonPath.string_at("$.registration.bundle"),
                    "champion": sfn.JsonPath.object_at("$.registration.champion"),
                    "by": sfn.JsonPath.format("policy:{}", sfn.JsonPath.string_at("$.run")),
                }
            ),
            result_path=sfn.JsonPath.DISCARD,
        )
        champion.add_catch(failed, errors=["States.ALL"], result_path="$.error")
        # A bundle that could not be compared with the champion is left to a person.
        wanted = sfn.Condition.and_(passed, _is_true("$.registration.compared"), _is_true("$.promote"))
        choice.when(wanted, champion.next(done))
    return choice.when(passed, done).otherwise(refused)


def _call(scope: Construct, name: str, function: HouseFunction, **kwargs: Any) -> tasks.LambdaInvoke:
    """A function's step, retried on Lambda's own faults (by CDK) and on an unavailable store."""
    step = tasks.LambdaInvoke(
        scope,
        name,
        lambda_function=function,
        task_timeout=sfn.Timeout.duration(function.timeout or cdk.Duration.minutes(15)),
        **kwargs,
    )
    step.add_retry(errors=["StoreUnavailable"], interval=cdk.Duration.seconds(5), max_attempts=3)
    return step


def job_state(
    scope: Construct, name: str, action: str, parameters: dict[str, Any], hours: int
) -> sfn.CustomState:
    """A SageMaker job that the run waits for; a rejected call is retried, a failed job is not."""
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
