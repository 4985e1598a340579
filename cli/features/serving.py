"""`candor features serving`: the kept versions of every view, and the one that serves."""

from __future__ import annotations

import click

from cli.features.versions import print_versions
from cli.options import common
from cli.stage import Stage


@click.command("serving")
@common
def serving_command(stage: Stage, *, as_json: bool) -> None:
    """Print the kept versions of every view, and which one serves."""
    print_versions(stage.registry.pointer(), as_json=as_json)
