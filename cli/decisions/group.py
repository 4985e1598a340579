"""`candor decisions …`: decisions that were made."""

from __future__ import annotations

import click

from cli.decisions.explain import explain_command
from cli.decisions.replay import replay_command
from cli.decisions.rescore import rescore_command
from cli.decisions.show import show_command


@click.group()
def decisions() -> None:
    """Decisions: records, explanations and replays."""


for command in (
    explain_command,
    replay_command,
    rescore_command,
    show_command,
):
    decisions.add_command(command)
