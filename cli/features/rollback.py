"""`candor features rollback`: undo the latest flip."""

from __future__ import annotations

import click

from cli.features.versions import print_versions
from cli.options import common
from cli.stage import Stage


@click.command("rollback")
@click.argument("view")
@common
def rollback_command(view: str, stage: Stage, *, as_json: bool) -> None:
    """Undo the latest flip of VIEW: one write, in effect from the next request."""
    print_versions(stage.registry.roll_back(view), as_json=as_json)
