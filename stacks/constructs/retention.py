"""Retention settings as values of CDK."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_logs as logs

from stacks.settings import LOG_RETENTION_DAYS, StageSettings

_NAMES = (
    "ONE_DAY THREE_DAYS FIVE_DAYS ONE_WEEK TWO_WEEKS ONE_MONTH TWO_MONTHS THREE_MONTHS FOUR_MONTHS "
    "FIVE_MONTHS SIX_MONTHS ONE_YEAR THIRTEEN_MONTHS EIGHTEEN_MONTHS TWO_YEARS THREE_YEARS FIVE_YEARS"
).split()


def log_retention(days: int) -> logs.RetentionDays:
    """CDK's value of a retention of `days`, one of LOG_RETENTION_DAYS."""
    return logs.RetentionDays[_NAMES[LOG_RETENTION_DAYS.index(days)]]


def removal_policy(settings: StageSettings) -> cdk.RemovalPolicy:
    """The removal policy of stateful resources."""
    return cdk.RemovalPolicy.RETAIN if settings.removal == "retain" else cdk.RemovalPolicy.DESTROY
