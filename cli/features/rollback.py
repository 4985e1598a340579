"""`candor features rollback`: the latest flip taken back."""

from __future__ import annotations

import click

from cli.features.versions import print_versions
from cli.options import common
from cli.stage import Stage


@click.command("rollback")
@click.argument("view")
@common
def rollback_command(view: str, stage: Stage, *, as_json: bool) -> None:
    """Take the latest flip of VIEW back: one write, from the next request on."""
    print_versions(stage.registry.roll_back(view), as_json=as_json)
