"""`candor archive …`: tables and index derived from the archive."""

from __future__ import annotations

import click

from cli.archive.compact import compact_command
from cli.archive.index import index_command


@click.group()
def archive() -> None:
    """Derivatives of the archive of events, decisions and commits: its tables and its index by entity."""


for command in (
    compact_command,
    index_command,
):
    archive.add_command(command)
