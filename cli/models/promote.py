"""`candor models promote`: make a bundle the champion."""

from __future__ import annotations

import click

from candor.registry.lifecycle import CHAMPION, Proposal
from cli.actors import actor, actor_options, second_person_required
from cli.models.changes import bundle_with_file, print_pointer, propose
from cli.options import common
from cli.stage import Stage


@click.command("promote")
@click.argument("bundle")
@actor_options
@common
def promote_command(bundle: str, by: str, why: str, stage: Stage, *, as_json: bool) -> None:
    """Make BUNDLE the champion: one write, in effect from the next request.

    Where the stage requires a second person, this only proposes it: another person then runs `candor models
    approve`.
    """
    sha = bundle_with_file(stage, bundle)
    proposer = actor(stage, by, why)
    if second_person_required(stage):
        propose(
            stage,
            sha,
            Proposal(CHAMPION, proposer.by, proposer.at, proposer.why, proposer.identity),
            as_json=as_json,
        )
        return
    print_pointer(
        stage.registry.promote(sha, by=proposer.by, at=proposer.at, why=proposer.why), as_json=as_json
    )
