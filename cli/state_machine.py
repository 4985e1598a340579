"""Executions of a state machine: idempotent start, watch to the end, cause of a failure."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from candor.errors import CandorError
from cli.progress import Progress

POLL_S: Final = 1.0

MAX_STARTS: Final = 99

STEPS: Final = {
    "PrepareTraining": "prepare",
    "BuildDataset": "data set",
    "TrainModel": "training",
    "EvaluateModel": "evaluation",
    "RegisterModel": "gates",
    "PromoteModel": "promotion",
}
"""States that take time, with the names shown as progress."""


class RunFailed(CandorError):
    """Run that did not succeed."""


class Execution(NamedTuple):
    """Execution of a run. `began` is false for one that was already running or done."""

    run: str
    arn: str
    began: bool


def begin(states: Any, machine: str, run_input: Mapping[str, Any]) -> Execution:
    """Start a run, or return its execution that is running or succeeded; restarts after a failure are numbered."""
    run = str(run_input["run"])
    for number in range(1, MAX_STARTS):
        name = run if number == 1 else f"{run}.{number}"
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
        status = _status(states, arn)
        if status in ("RUNNING", "SUCCEEDED"):
            return Execution(run, arn, began=False)
        if status is None:
            text = json.dumps(dict(run_input), sort_keys=True)
            began = states.start_execution(stateMachineArn=machine, name=name, input=text)
            return Execution(run, str(began["executionArn"]), began=True)
    raise RunFailed(f"run {run} was started {MAX_STARTS - 1} times: fix the cause and use another --run name")


def watch(states: Any, started: Execution) -> Any:
    """Wait for the end, showing the steps; returns the described execution."""
    with Progress() as progress:
        seen = 0
        while True:
            execution = states.describe_execution(executionArn=started.arn)
            events = _events(states, started.arn)
            for event in events[seen:]:
                step = STEPS.get(event.get("stateEnteredEventDetails", {}).get("name", ""))
                if step is not None:
                    progress.update(step, 0)
                step = STEPS.get(event.get("stateExitedEventDetails", {}).get("name", ""))
                if step is not None:
                    progress.update(step, 1, 1)
            seen = len(events)
            if execution["status"] != "RUNNING":
                return execution
            time.sleep(POLL_S)


def failure_reason(states: Any, arn: str) -> str:
    """Cause of the first failed step; for a SageMaker job its own failure reason."""
    details = [part for event in _events(states, arn) for part in event.values() if isinstance(part, Mapping)]
    cause = next((str(part["cause"]) for part in details if part.get("cause")), "no cause was given")
    try:
        job = json.loads(cause)
    except ValueError:
        return cause
    message = job.get("FailureReason") or job.get("errorMessage") if isinstance(job, dict) else None
    return str(message or cause)


def _status(states: Any, arn: str) -> str | None:
    try:
        return str(states.describe_execution(executionArn=arn)["status"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
            return None
        raise


def _events(states: Any, arn: str) -> list[Any]:
    pages = states.get_paginator("get_execution_history").paginate(executionArn=arn)
    return [event for page in pages for event in page["events"]]
