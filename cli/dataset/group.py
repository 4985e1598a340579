"""`candor dataset …`: training sets."""

from __future__ import annotations

import click

from cli.dataset.build import build_command


@click.group()
def dataset() -> None:
    """Training sets: labelled checkouts with point-in-time features."""


for command in (build_command,):
    dataset.add_command(command)
