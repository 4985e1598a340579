"""`candor policy …`: decision tables, and their releases."""

from __future__ import annotations

import click

from cli.policy.approve import approve_command
from cli.policy.backtest import backtest_command
from cli.policy.check import check_command
from cli.policy.history import history_command
from cli.policy.propose import propose_command
from cli.policy.rollback import rollback_command
from cli.policy.show import show_command


@click.group()
def policy() -> None:
    """Policy: checks, backtests and releases of the decision table."""


for command in (
    approve_command,
    backtest_command,
    check_command,
    history_command,
    propose_command,
    rollback_command,
    show_command,
):
    policy.add_command(command)
