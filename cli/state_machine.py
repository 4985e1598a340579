"""Executions of a state machine: started once however often they are asked for, and watched to their end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from candor.errors import CandorError
from cli.progress import Shown

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
"""The states that take time, as a person calls them."""


class RetrainingFailed(CandorError):
    """A run ended otherwise than it should."""


class Execution(NamedTuple):
    """One start of a run. `began` is false for one that was found running or done."""

    run: str
    arn: str
    began: bool


def begin(states: Any, machine: str, asked: Mapping[str, Any]) -> Execution:
    """Start a run, or find the start of it that goes on or succeeded; each further start of one that failed is numbered."""
    run = str(asked["run"])
    for number in range(1, MAX_STARTS):
        name = run if number == 1 else f"{run}.{number}"
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
        status = _status(states, arn)
        if status in ("RUNNING", "SUCCEEDED"):
            return Execution(run, arn, began=False)
        if status is None:
            given = json.dumps(dict(asked), sort_keys=True)
            began = states.start_execution(stateMachineArn=machine, name=name, input=given)
            return Execution(run, str(began["executionArn"]), began=True)
    raise RetrainingFailed(
        f"run {run} was started {MAX_STARTS - 1} times: mend the cause and name another run"
    )


def watched(states: Any, started: Execution) -> Any:
    """Wait for the end; the steps are shown as they begin."""
    with Shown() as shown:
        seen = 0
        while True:
            found = states.describe_execution(executionArn=started.arn)
            events = _events(states, started.arn)
            for event in events[seen:]:
                step = STEPS.get(event.get("stateEnteredEventDetails", {}).get("name", ""))
                if step is not None:
                    shown.told(step, 0)
                step = STEPS.get(event.get("stateExitedEventDetails", {}).get("name", ""))
                if step is not None:
                    shown.told(step, 1, 1)
            seen = len(events)
            if found["status"] != "RUNNING":
                return found
            time.sleep(POLL_S)


def reason(states: Any, arn: str) -> str:
    """Why it ended, in the words of the first step that failed; of a SageMaker job its own."""
    details = [part for event in _events(states, arn) for part in event.values() if isinstance(part, Mapping)]
    cause = next((str(part["cause"]) for part in details if part.get("cause")), "no cause was given")
    try:
        job = json.loads(cause)
    except ValueError:
        return cause
    told = job.get("FailureReason") or job.get("errorMessage") if isinstance(job, dict) else None
    return str(told or cause)


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
