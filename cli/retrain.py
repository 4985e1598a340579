"""`candor retrain`: one run of the state machine that trains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3
import click

from candor.clock import SystemClock, format_rfc3339
from candor.registry.training_run import run_name
from cli.options import Moment, common
from cli.output import print_json, print_pairs
from cli.stage import Stage
from cli.state_machine import RetrainingFailed, begin, reason, watched


@click.command("retrain")
@click.option("--run", help="Name of the run; the same name is the same run. Default: by the time.")
@click.option(
    "--as-of", type=Moment(), help="Train on what was known then: RFC 3339, or 24h ago. Default: now."
)
@click.option("--promote", is_flag=True, help="Where policy may: promote it if every gate lets it through.")
@click.option("--wait", is_flag=True, help="Wait for the end, and show the steps.")
@common
def retrain_command(
    run: str | None, as_of: int | None, stage: Stage, *, promote: bool, wait: bool, as_json: bool
) -> None:
    """Train a model anew: data set, training, evaluation, gates, registration.

    A run that goes on is not started again, one that is done is left as it is, and one that failed
    goes on where it ended: finished steps are not repeated.
    """
    asked: dict[str, Any] = {"run": run_name({"run": run}, SystemClock().now_ms()), "promote": promote}
    if as_of is not None:
        asked["as_of"] = format_rfc3339(as_of)
    states = boto3.client("stepfunctions")
    started = begin(states, stage.output("RetrainStateMachineArn"), asked)
    found = watched(states, started) if wait else states.describe_execution(executionArn=started.arn)
    told = {"run": started.run, "status": found["status"], "began": started.began, **_registered(found)}
    if as_json:
        print_json(told)
    else:
        print_pairs(told)
    if found["status"] not in ("RUNNING", "SUCCEEDED"):
        raise RetrainingFailed(f"run {started.run} ended {found['status']}: {reason(states, started.arn)}")


def _registered(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a run that is over says of its bundle."""
    registration = json.loads(found.get("output") or "{}").get("registration", {})
    return {name: registration[name] for name in ("bundle", "passed") if name in registration}
