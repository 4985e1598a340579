"""`candor policy rollback`: restore the decision table before the released one."""

from __future__ import annotations

import click

from candor.clock import SystemClock
from candor.registry.lifecycle import Actor
from cli.actors import actor_options
from cli.options import common
from cli.policy.output import print_policy_in_force
from cli.policy_releases import code_difference, policy_releases
from cli.stage import Stage


@click.command("rollback")
@actor_options
@common
def rollback_command(by: str, why: str, stage: Stage, *, as_json: bool) -> None:
    """Restore the table before the released one: one write, in effect from the next request.

    No gate and no approval is needed. The bundles of before the release decide again, byte for byte; a model that was
    promoted since then gets the table before.
    """
    releases = policy_releases(stage)
    pointer = releases.roll_back(Actor(by, SystemClock().now_ms(), why))
    print_policy_in_force(pointer, None, code_difference(releases), as_json=as_json)
