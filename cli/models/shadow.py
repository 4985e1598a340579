"""`candor models shadow`: bundles that score beside and decide nothing."""

from __future__ import annotations

import click

from candor.clock import SystemClock
from cli.models.changes import actor_options, bundle_with_file, print_pointer
from cli.options import common
from cli.stage import Stage


@click.command("shadow")
@click.argument("bundles", metavar="[BUNDLE]...", nargs=-1)
@click.option("--none", "nobody", is_flag=True, help="No bundle scores in the shadow any more.")
@actor_options
@common
def shadow_command(
    bundles: tuple[str, ...], by: str, why: str, stage: Stage, *, nobody: bool, as_json: bool
) -> None:
    """Let exactly these bundles score every decision after it was made; they decide nothing.

    What they say is in the archive, under `shadows/`, a minute or two later.
    """
    if nobody == bool(bundles):
        raise click.UsageError("give one BUNDLE or more, or --none alone")
    shas = [bundle_with_file(stage, bundle) for bundle in bundles]
    print_pointer(stage.registry.shadow(shas, by=by, at=SystemClock().now_ms(), why=why), as_json=as_json)
