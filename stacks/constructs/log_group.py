"""Log groups: kept as long as the stage says, and deleted with their stack."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.constructs.retention import log_retention
from stacks.stage import StageStack


class HouseLogGroup(logs.LogGroup):
    """A log group with the stage's retention."""

    def __init__(self, scope: Construct, construct_id: str, *, name: str | None = None) -> None:
        super().__init__(
            scope,
            construct_id,
            log_group_name=name,
            retention=log_retention(StageStack.enclosing(scope).settings.log_retention_days),
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
