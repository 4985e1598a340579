"""`candor models rollback`: the champion before decides again."""

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
    """Point back at the champion that the present one replaced: one write, from the next request on.

    Nobody has to approve it. What it restores decides as it did, byte for byte.
    """
    registry = stage.registry
    serving = registry.pointer().bundle
    known = registry.registration(serving) if serving else None
    if known is not None and known.succeeded is not None:
        require_bundle(s3_client(), stage.output("BundlesBucketName"), known.succeeded)
    print_pointer(registry.restore(by=by, at=SystemClock().now_ms(), why=why), as_json=as_json)
