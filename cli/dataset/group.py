"""`candor dataset …`: training sets."""

from __future__ import annotations

import click

from cli.dataset.build import build_command


@click.group()
def dataset() -> None:
    """Training sets: labelled checkouts with what was known of them at the time."""


for command in (build_command,):
    dataset.add_command(command)
