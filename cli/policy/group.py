"""`candor policy …`: decision tables before they serve."""

from __future__ import annotations

import click

from cli.policy.backtest import backtest_command
from cli.policy.check import check_command


@click.group()
def policy() -> None:
    """Policy: checks and backtests of the decision table."""


for command in (
    backtest_command,
    check_command,
):
    policy.add_command(command)
