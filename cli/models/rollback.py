"""`candor models rollback`: restore the previous champion."""

from __future__ import annotations

import click

from candor.clock import SystemClock
from candor.registry.artifacts import require_bundle, s3_client
from cli.models.changes import actor_options, print_pointer
from cli.options import common
from cli.stage import Stage


@click.command("rollback")
@actor_options
@common
def rollback_command(by: str, why: str, stage: Stage, *, as_json: bool) -> None:
    """Restore the champion before the present one: one write, in effect from the next request.

    No approval is needed. The restored bundle decides as before, byte for byte.
    """
    registry = stage.registry
    serving = registry.pointer().bundle
    known = registry.registration(serving) if serving else None
    if known is not None and known.succeeded is not None:
        require_bundle(s3_client(), stage.output("BundlesBucketName"), known.succeeded)
    print_pointer(registry.restore(by=by, at=SystemClock().now_ms(), why=why), as_json=as_json)
