"""`candor features serving`: every version that is kept, and which of them serves."""

from __future__ import annotations

import click

from cli.features.versions import print_versions
from cli.options import common
from cli.stage import Stage


@click.command("serving")
@common
def serving_command(stage: Stage, *, as_json: bool) -> None:
    """Print every view that is kept, its versions, and which of them serves."""
    print_versions(stage.registry.pointer(), as_json=as_json)
