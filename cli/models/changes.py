"""Actor, proposal and output of the commands that move the pointer."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any, TypeVar

import click

from candor.clock import SystemClock, format_rfc3339
from candor.registry.artifacts import require_bundle, s3_client
from candor.registry.lifecycle import Actor, Proposal
from candor.registry.pointer import Pointer
from candor.registry.promote import SECOND_PERSON
from cli.bundles import resolve_bundle
from cli.output import print_json, print_pairs
from cli.stage import Stage

F = TypeVar("F", bound=Callable[..., Any])


def actor_options(command: F) -> F:
    """Add the options of the audit: actor and reason."""
    by = click.option("--by", default=getpass.getuser, help="Your name for the audit. Default: your user.")
    return by(click.option("--why", default="", help="Reason for the audit.")(command))


def bundle_with_file(stage: Stage, bundle: str) -> str:
    """Full name of a bundle whose file exists. Raises BundleRefused."""
    sha = resolve_bundle(stage, bundle)
    require_bundle(s3_client(), stage.output("BundlesBucketName"), sha)
    return sha


def actor(stage: Stage, by: str, why: str) -> Actor:
    """Actor with reason and moment; its AWS identity only where a second person must approve."""
    second_person = stage.output("PromotionApproval") == SECOND_PERSON
    return Actor(by, SystemClock().now_ms(), why, stage.identity() if second_person else "")


def propose(stage: Stage, sha: str, proposal: Proposal, *, as_json: bool) -> None:
    stage.registry.propose(sha, proposal)
    summary = {"bundle": sha, "proposed_as": proposal.to, "share": proposal.share, "by": proposal.by}
    if as_json:
        print_json(summary)
    else:
        click.echo(
            f"proposed: nothing has moved yet. Another person approves with `candor models approve {sha[:12]}`"
        )


def print_pointer(pointer: Pointer, *, as_json: bool) -> None:
    summary = pointer_json(pointer)
    if as_json:
        print_json(summary)
    else:
        challenger = summary["challenger"]
        print_pairs(
            {
                "champion": pointer.bundle or "none",
                "challenger": f"{challenger['bundle']} for {challenger['share']:.1%}"
                if challenger
                else "none",
                "shadows": "\n".join(pointer.shadows) or "none",
            }
        )


def pointer_json(pointer: Pointer) -> dict[str, Any]:
    """JSON form of champion, challenger and shadows."""
    challenger = pointer.challenger
    return {
        "champion": pointer.bundle,
        "challenger": challenger
        and {
            "bundle": challenger.bundle,
            "share": challenger.share,
            "since": format_rfc3339(challenger.at),
            "by": challenger.by,
        },
        "shadows": list(pointer.shadows),
    }
