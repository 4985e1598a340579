"""A schedule of EventBridge Scheduler: in UTC, to the minute, with three retries within an hour."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct


class HouseSchedule(scheduler.CfnSchedule):
    """Starts `target_arn` with `payload` (JSON), by a role that may do it."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        expression: str,
        target_arn: str,
        role: iam.Role,
        payload: str,
        enabled: bool | None = None,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            schedule_expression=expression,
            schedule_expression_timezone="UTC",
            state=None if enabled is None else "ENABLED" if enabled else "DISABLED",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=target_arn,
                role_arn=role.role_arn,
                input=payload,
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=3600, maximum_retry_attempts=3
                ),
            ),
        )
