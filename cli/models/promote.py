"""`candor models promote`: a bundle decides for everyone."""

from __future__ import annotations

import click

from candor.registry.lifecycle import CHAMPION, Proposal
from cli.models.changes import TWO_PERSONS, actor, actor_options, bundle_with_file, print_pointer, propose
from cli.options import common
from cli.stage import Stage


@click.command("promote")
@click.argument("bundle")
@actor_options
@common
def promote_command(bundle: str, by: str, why: str, stage: Stage, *, as_json: bool) -> None:
    """Let BUNDLE decide for everyone, from the next request on: one write.

    Where the stage asks for a second person this only proposes it: somebody else then says `candor
    models approve`.
    """
    sha = bundle_with_file(stage, bundle)
    word = actor(stage, by, why)
    if stage.output("PromotionApproval") == TWO_PERSONS:
        propose(stage, sha, Proposal(CHAMPION, word.by, word.at, word.why, word.identity), as_json=as_json)
        return
    print_pointer(stage.registry.promote(sha, by=word.by, at=word.at, why=word.why), as_json=as_json)
