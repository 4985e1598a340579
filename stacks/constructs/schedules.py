"""What starts by itself: retrainings, and the guard of what serves."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from stacks.constructs.function import HouseFunction
from stacks.settings import StageSettings

GUARD_MINUTES = 5


class Schedules(Construct):
    """Two schedules and the one role that they share: it may start this machine and this function, nothing else."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: StageSettings,
        machine: sfn.StateMachine,
        guard: HouseFunction,
    ) -> None:
        super().__init__(scope, construct_id)
        account = {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}
        self._role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com", conditions=account),
            description=f"candor {settings.stage}: schedules",
        )
        started = settings.retrain_schedule
        # The moment names the run, so that one that is delivered twice is one run.
        asked = {"scheduled_at": "<aws.scheduler.scheduled-time>"}
        self._schedule(
            "Retrain", started or "rate(7 days)", machine.state_machine_arn, asked, on=started is not None
        )
        self._allow("states:StartExecution", machine.state_machine_arn)
        every = f"rate({GUARD_MINUTES} minutes)"
        self._schedule("Guard", every, guard.function_arn, {}, on=settings.guard.hours > 0)
        self._allow("lambda:InvokeFunction", guard.function_arn)

    def _schedule(self, name: str, expression: str, target: str, given: dict[str, str], *, on: bool) -> None:
        scheduler.CfnSchedule(
            self,
            name,
            schedule_expression=expression,
            schedule_expression_timezone="UTC",
            state="ENABLED" if on else "DISABLED",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=target,
                role_arn=self._role.role_arn,
                input=json.dumps(given),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=3600, maximum_retry_attempts=3
                ),
            ),
        )

    def _allow(self, action: str, resource: str) -> None:
        self._role.add_to_policy(iam.PolicyStatement(actions=[action], resources=[resource]))
