"""`candor models rollback`: restore the previous champion."""

from __future__ import annotations

import click

from candor.clock import SystemClock
from candor.registry.artifacts import require_bundle, s3_client
from candor.registry.lifecycle import Actor
from cli.actors import actor_options
from cli.models.changes import print_pointer
from cli.options import common
from cli.policy_releases import policy_releases
from cli.stage import Stage


@click.command("rollback")
@actor_options
@common
def rollback_command(by: str, why: str, stage: Stage, *, as_json: bool) -> None:
    """Restore the champion before the present one: one write, in effect from the next request.

    No approval is needed. The restored bundle decides as before, byte for byte; where another table was released since
    it served, it decides with that table. `candor policy rollback` restores a table.
    """
    registry, now_ms = stage.registry, SystemClock().now_ms()
    before = registry.previous()
    require_bundle(s3_client(), stage.output("BundlesBucketName"), before)
    target = policy_releases(stage).conforming(before, Actor(by, now_ms, why))
    print_pointer(registry.restore(target, by=by, at=now_ms, why=why), as_json=as_json)
