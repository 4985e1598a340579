"""`candor features …`: feature views."""

from __future__ import annotations

import click

from cli.features.as_of import as_of_command
from cli.features.backfill import backfill_command
from cli.features.consistency import consistency_command
from cli.features.erase import erase_command
from cli.features.flip import flip_command
from cli.features.rebuild import rebuild_command
from cli.features.replay import replay_command
from cli.features.rollback import rollback_command
from cli.features.serving import serving_command
from cli.features.show import show_command


@click.group()
def features() -> None:
    """Feature views: serving versions, stored items, and checks of both."""


for command in (
    as_of_command,
    backfill_command,
    consistency_command,
    erase_command,
    flip_command,
    rebuild_command,
    replay_command,
    rollback_command,
    serving_command,
    show_command,
):
    features.add_command(command)
