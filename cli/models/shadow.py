"""`candor models shadow`: set the bundles that score without deciding."""

from __future__ import annotations

import click

from candor.clock import SystemClock
from cli.actors import actor_options
from cli.models.changes import bundle_with_file, print_pointer
from cli.options import common
from cli.stage import Stage


@click.command("shadow")
@click.argument("bundles", metavar="[BUNDLE]...", nargs=-1)
@click.option("--none", "nobody", is_flag=True, help="Remove all shadows.")
@actor_options
@common
def shadow_command(
    bundles: tuple[str, ...], by: str, why: str, stage: Stage, *, nobody: bool, as_json: bool
) -> None:
    """Set the shadows: these bundles score every decision after it was made, and decide nothing.

    Their scores are in the archive, under `shadows/`, a minute or two later.
    """
    if nobody == bool(bundles):
        raise click.UsageError("give one BUNDLE or more, or --none alone")
    shas = [bundle_with_file(stage, bundle) for bundle in bundles]
    print_pointer(stage.registry.shadow(shas, by=by, at=SystemClock().now_ms(), why=why), as_json=as_json)
