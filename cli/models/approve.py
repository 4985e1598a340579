"""`candor models approve`: approve another person's proposal."""

from __future__ import annotations

import click

from cli.actors import actor, actor_options
from cli.models.changes import bundle_with_file, print_pointer
from cli.options import common
from cli.stage import Stage


@click.command("approve")
@click.argument("bundle")
@actor_options
@common
def approve_command(bundle: str, by: str, why: str, stage: Stage, *, as_json: bool) -> None:
    """Approve another person's proposal for BUNDLE: a promotion or a challenge.

    Your name and your AWS identity must both differ from the proposer's.
    """
    sha = bundle_with_file(stage, bundle)
    print_pointer(stage.registry.approve(sha, actor(stage, by, why)), as_json=as_json)
