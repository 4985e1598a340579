"""`candor policy approve`: release a proposed decision table."""

from __future__ import annotations

import click

from cli.actors import actor, actor_options, second_person_required
from cli.options import common
from cli.policy.output import print_policy_in_force
from cli.policy_releases import code_difference, policy_releases
from cli.stage import Stage


@click.command("approve")
@click.argument("release", type=click.IntRange(1), required=False)
@actor_options
@common
def approve_command(release: int | None, by: str, why: str, stage: Stage, *, as_json: bool) -> None:
    """Release the proposed table number RELEASE, or the only open proposal: one write, in effect from the next request.

    Champion and challenger decide with it, with the models that they have. Where the stage requires a second person,
    your name and your AWS identity must both differ from the proposer's.
    """
    releases = policy_releases(stage)
    proposal = releases.open_proposal(release)
    pointer = releases.approve(proposal, actor(stage, by, why), second_person=second_person_required(stage))
    released = stage.registry.release(proposal.number)
    print_policy_in_force(pointer, released, code_difference(releases), as_json=as_json)
