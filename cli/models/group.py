"""`candor models …`: models over their life."""

from __future__ import annotations

import click

from cli.models.approve import approve_command
from cli.models.challenge import challenge_command
from cli.models.compare import compare_command
from cli.models.history import history_command
from cli.models.list import list_command
from cli.models.monitor import monitor_command
from cli.models.promote import promote_command
from cli.models.report import report_command
from cli.models.rollback import rollback_command
from cli.models.shadow import shadow_command
from cli.models.show import show_command


@click.group()
def models() -> None:
    """Models: bundles, champion, challenger, shadows, and their history."""


for command in (
    approve_command,
    challenge_command,
    compare_command,
    history_command,
    list_command,
    monitor_command,
    promote_command,
    report_command,
    rollback_command,
    shadow_command,
    show_command,
):
    models.add_command(command)
