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

_ATTEMPTS = 3
"""Of a step within one execution."""

_PASSING_FAULTS = ("InternalServerError", "CapacityError", "ServiceUnavailable", "already exists")
"""What SageMaker says where it was not our program that failed; the last where another execution was faster."""

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
    """Input: run, as_of, seeds, promote. What is done of the run already is passed over.

    Every failure is published with its cause before the execution fails.
    """
    hours = settings.training_max_hours
    failed = _notice(scope, "NotifyFailure", notices, "candor: a retraining failed", "$.error").next(
        sfn.Fail(scope, "RetrainFailed", error="RetrainFailed", cause="A step failed; see the notice")
    )
    prepare = _call(scope, "PrepareTraining", functions.prepare, output_path="$.Payload")
    # A job that outlived the execution that waited for it.
    minute = cdk.Duration.minutes(1)
    prepare.add_retry(errors=["StepUnderWay"], interval=minute, backoff_rate=1, max_attempts=hours * 60 + 15)
    register = _call(
        scope,
        "RegisterModel",
        functions.register,
        result_path="$.registration",
        result_selector={
            name + ".$": "$.Payload." + name
            for name in ("bundle", "passed", "compared", "champion", "metrics", "refused")
        },
    )
    for call in (prepare, register):
        call.add_catch(failed, errors=["States.ALL"], result_path="$.error")
    again = _once_more(scope, prepare, failed)
    following: sfn.IChainable = register
    for step in reversed(_jobs(scope, jobs, hours)):
        step.job.add_catch(again, errors=["States.ALL"], result_path="$.error")
        step.job.next(following)
        done = sfn.Choice(scope, step.question)
        following = done.when(_is_true(f"$.steps.{step.name}.done"), following).otherwise(step.job)
    prepare.next(following)
    register.next(_after_gate(scope, functions.promote, notices, failed, settings))
    return prepare


class _Job(NamedTuple):
    """A step that is a SageMaker job: its name in the run's state, the state that asks whether it is done, and its own."""

    name: str
    question: str
    job: sfn.CustomState


def _jobs(scope: Construct, jobs: SageMakerJobs, hours: int) -> list[_Job]:
    made = {
        "dataset": ("DatasetBuilt", "BuildDataset", "createProcessingJob", jobs.dataset_job()),
        "train": ("ModelTrained", "TrainModel", "createTrainingJob", jobs.training_job()),
        "assess": ("ModelEvaluated", "EvaluateModel", "createProcessingJob", jobs.assess_job()),
    }
    return [
        _Job(name, question, job_state(scope, state, action, parameters, hours))
        for name, (question, state, action, parameters) in made.items()
    ]


def _once_more(scope: Construct, prepare: sfn.INextable, failed: sfn.Chain) -> sfn.Choice:
    """A failed job is tried again, under its next name and after a wait that doubles, where the fault is not its own."""
    cause = "$.error.Cause"
    faults = [sfn.Condition.string_matches(cause, f"*{fault}*") for fault in _PASSING_FAULTS]
    worth_it = sfn.Condition.and_(
        sfn.Condition.is_present(cause),
        sfn.Condition.number_less_than("$.attempt", _ATTEMPTS),
        sfn.Condition.or_(*faults),
    )
    again = sfn.Pass(
        scope,
        "KeepOrder",
        parameters={"run": sfn.JsonPath.string_at("$.run"), "promote": sfn.JsonPath.object_at("$.promote")},
    )
    wait = sfn.Wait(scope, "WaitBeforeRetry", time=sfn.WaitTime.seconds_path("$.wait_s"))
    wait.next(again)
    again.next(prepare)  # type: ignore[arg-type] # a state, and the start of the machine
    return sfn.Choice(scope, "WorthAnotherTry").when(worth_it, wait).otherwise(failed)


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
        # A policy does not decide what could not be compared with the champion: that is for a person.
        wanted = sfn.Condition.and_(passed, _is_true("$.registration.compared"), _is_true("$.promote"))
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


def job_state(
    scope: Construct, name: str, action: str, parameters: dict[str, Any], hours: int
) -> sfn.CustomState:
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
