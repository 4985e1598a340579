"""`candor retrain`: start a run of the training state machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3
import click

from candor.clock import SystemClock, format_rfc3339
from candor.registry.training_run import run_name
from cli.figures import validation_auc
from cli.options import Moment, common
from cli.output import print_json, print_pairs
from cli.stage import Stage
from cli.state_machine import RunFailed, begin, failure_reason, watch


@click.command("retrain")
@click.option("--run", help="Name of the run; the same name is the same run. Default: from the time.")
@click.option(
    "--as-of", type=Moment(), help="Train on what was known then: RFC 3339, or 24h ago. Default: now."
)
@click.option("--promote", is_flag=True, help="Promote it if every gate passes and the stage allows it.")
@click.option("--wait", is_flag=True, help="Wait for the end, and show the steps.")
@common
def retrain_command(
    run: str | None, as_of: int | None, stage: Stage, *, promote: bool, wait: bool, as_json: bool
) -> None:
    """Retrain the model: data set, training, evaluation, gates, registration.

    A running or finished run is not started again. A failed run resumes where it ended: finished steps are not
    repeated.
    """
    run_input: dict[str, Any] = {"run": run_name({"run": run}, SystemClock().now_ms()), "promote": promote}
    if as_of is not None:
        run_input["as_of"] = format_rfc3339(as_of)
    states = boto3.client("stepfunctions")
    started = begin(states, stage.output("RetrainStateMachineArn"), run_input)
    execution = watch(states, started) if wait else states.describe_execution(executionArn=started.arn)
    summary = {
        "run": started.run,
        "status": execution["status"],
        "began": started.began,
        **_registration(execution),
        **_promotion(execution, stage),
    }
    if as_json:
        print_json(summary)
    else:
        print_pairs(_readable(summary, execution))
    if execution["status"] not in ("RUNNING", "SUCCEEDED"):
        raise RunFailed(
            f"run {started.run} ended {execution['status']}: {failure_reason(states, started.arn)}"
        )


def _readable(summary: Mapping[str, Any], execution: Mapping[str, Any]) -> dict[str, Any]:
    """The summary for people: the AUC has its interval, and what it is measured on."""
    auc = validation_auc(_registered(execution).get("metrics", {}))
    figures = {
        "validation AUC": f"{auc}, on the latest part of the training set by a model of the earlier part"
    }
    return {name: value for name, value in summary.items() if name != "validation_auc"} | (
        figures if auc else {}
    )


def _promotion(execution: Mapping[str, Any], stage: Stage) -> dict[str, str]:
    """Whether a run that succeeded promoted its bundle, and if not, why and what to do."""
    if execution["status"] != "SUCCEEDED":
        return {}
    registration = json.loads(execution["output"])["registration"]
    by_hand = f"`candor models promote {registration['bundle'][:12]}`"
    if stage.output("Promotion") != "policy":
        return {"promoted": f"no: on this stage people promote; use {by_hand}"}
    if not json.loads(execution["input"])["promote"]:
        return {"promoted": f"no: the run was started without --promote; use {by_hand}"}
    if not registration["compared"]:
        return {
            "promoted": f"no: the gates could not compare it with the champion; read its report, then {by_hand}"
        }
    return {"promoted": "yes"}


def _registration(execution: Mapping[str, Any]) -> dict[str, Any]:
    """Bundle, gate result and notice about the policy of a run that is over."""
    registration = _registered(execution)
    notice = registration.get("policy", {}).get("notice")
    known: dict[str, Any] = {
        name: registration[name] for name in ("bundle", "passed") if name in registration
    }
    if (auc := registration.get("metrics", {}).get("auc")) is not None:
        known["validation_auc"] = auc
    return {**known, "policy": notice} if notice else known


def _registered(execution: Mapping[str, Any]) -> dict[str, Any]:
    """Registration that a run made; empty before the run is over."""
    registration: dict[str, Any] = json.loads(execution.get("output") or "{}").get("registration", {})
    return registration
