"""`candor models …`: who decides beside the champion, and who only looks on."""

from __future__ import annotations

import getpass
from typing import Any

import click

from candor.clock import SystemClock, format_rfc3339
from candor.store.artifacts import require_bundle, s3_client
from candor.store.pointer import Pointer
from cli.monitoring import monitor_command
from cli.options import common, print_json, print_pairs
from cli.stage import Stage


@click.group()
def models() -> None:
    """Models: a challenger for a share of the customers, and shadows that decide nothing."""


models.add_command(monitor_command)


@models.command("challenge")
@click.argument("bundle", required=False)
@click.option("--share", type=float, help="Share of the customers, above 0 and below 1.")
@click.option("--end", is_flag=True, help="End the challenge: the champion decides for everyone.")
@click.option("--by", default=getpass.getuser, help="Who says so; kept with it. Default: your user.")
@common
def challenge_command(
    bundle: str | None, share: float | None, by: str, stage: Stage, *, end: bool, as_json: bool
) -> None:
    """Let BUNDLE decide for a share of the customers, from the next request on: one write.

    Each customer stays on one side. Every record names the bundle that decided and how probable that was.
    """
    if end == bool(bundle) or bool(bundle) != (share is not None):
        raise click.UsageError("give BUNDLE and --share, or --end alone")
    if bundle is None or share is None:
        _print(stage.registry.end_challenge(), as_json=as_json)
        return
    require_bundle(s3_client(), stage.output("BundlesBucketName"), bundle)
    _print(stage.registry.challenge(bundle, share, by=by, at=SystemClock().now_ms()), as_json=as_json)


@models.command("shadow")
@click.argument("bundles", metavar="[BUNDLE]...", nargs=-1)
@click.option("--none", "nobody", is_flag=True, help="No bundle scores in the shadow any more.")
@common
def shadow_command(bundles: tuple[str, ...], stage: Stage, *, nobody: bool, as_json: bool) -> None:
    """Let exactly these bundles score every decision after it was made; they decide nothing.

    What they say is in the archive, under `shadows/`, a minute or two later.
    """
    if nobody == bool(bundles):
        raise click.UsageError("give one BUNDLE or more, or --none alone")
    for bundle in bundles:
        require_bundle(s3_client(), stage.output("BundlesBucketName"), bundle)
    _print(stage.registry.shadow(bundles), as_json=as_json)


def _print(pointer: Pointer, *, as_json: bool) -> None:
    found = told(pointer)
    if as_json:
        print_json(found)
    else:
        challenger = found["challenger"]
        print_pairs(
            {
                "champion": pointer.bundle or "none",
                "challenger": f"{challenger['bundle']} for {challenger['share']:.1%}"
                if challenger
                else "none",
                "shadows": "\n".join(pointer.shadows) or "none",
            }
        )


def told(pointer: Pointer) -> dict[str, Any]:
    """JSON form of who decides and who looks on."""
    one = pointer.challenger
    return {
        "champion": pointer.bundle,
        "challenger": one
        and {"bundle": one.bundle, "share": one.share, "since": format_rfc3339(one.at), "by": one.by},
        "shadows": list(pointer.shadows),
    }
