"""`candor dlq …`: messages that could not be processed."""

from __future__ import annotations

import click

from cli.dlq.list import list_command
from cli.dlq.redrive import redrive_command
from cli.dlq.show import show_command


@click.group()
def dlq() -> None:
    """Dead-letter queues: what could not be processed, why, and its way back."""


for command in (list_command, show_command, redrive_command):
    dlq.add_command(command)
