"""Schedules of retrainings and of the guard of the serving models."""

from __future__ import annotations

import json

from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from stacks.constructs.function import HouseFunction
from stacks.constructs.roles import allow, service_role
from stacks.constructs.schedule import HouseSchedule
from stacks.stage import StageConstruct

GUARD_MINUTES = 5


class Schedules(StageConstruct):
    """Two schedules and their common role, which may start this state machine and this function only."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        machine: sfn.StateMachine,
        guard: HouseFunction,
    ) -> None:
        super().__init__(scope, construct_id)
        settings = self._settings
        self._role = service_role(self, "Role", "scheduler", f"candor {settings.stage}: schedules")
        # The scheduled time names the run, so that a duplicate delivery starts no second one.
        order = {"scheduled_at": "<aws.scheduler.scheduled-time>"}
        retrain = settings.retrain_schedule
        self._schedule(
            "Retrain",
            retrain or "rate(7 days)",
            machine.state_machine_arn,
            order,
            enabled=retrain is not None,
        )
        allow(self._role, "states:StartExecution", on=[machine.state_machine_arn])
        interval = f"rate({GUARD_MINUTES} minutes)"
        self._schedule("Guard", interval, guard.function_arn, {}, enabled=settings.guard.hours > 0)
        allow(self._role, "lambda:InvokeFunction", on=[guard.function_arn])

    def _schedule(
        self, name: str, expression: str, target_arn: str, payload: dict[str, str], *, enabled: bool
    ) -> None:
        HouseSchedule(
            self,
            name,
            expression=expression,
            target_arn=target_arn,
            role=self._role,
            payload=json.dumps(payload),
            enabled=enabled,
        )
