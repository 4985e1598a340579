"""What the commands that move the pointer share: who says so, proposals, what decides now."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from candor.clock import SystemClock, format_rfc3339
from candor.registry.artifacts import require_bundle, s3_client
from candor.registry.lifecycle import Proposal, Word
from candor.registry.pointer import Pointer
from cli.bundles import named_bundle
from cli.output import print_json, print_pairs
from cli.stage import Stage

F = TypeVar("F", bound=Callable[..., Any])

TWO_PERSONS: Final = "second_person"
"""How a stage says that somebody else must approve."""


def actor_options(command: F) -> F:
    """Options that say by whose word something moves, and why."""
    by = click.option("--by", default=getpass.getuser, help="Who says so; kept with it. Default: your user.")
    return by(click.option("--why", default="", help="Why; kept in the audit.")(command))


def bundle_with_file(stage: Stage, bundle: str) -> str:
    """The whole name of a bundle whose file is there."""
    sha = named_bundle(stage, bundle)
    require_bundle(s3_client(), stage.output("BundlesBucketName"), sha)
    return sha


def actor(stage: Stage, by: str, why: str) -> Word:
    """AWS is asked who it is only where that matters."""
    asked = stage.output("PromotionApproval") == TWO_PERSONS
    return Word(by, SystemClock().now_ms(), why, stage.identity() if asked else "")


def propose(stage: Stage, sha: str, proposal: Proposal, *, as_json: bool) -> None:
    stage.registry.propose(sha, proposal)
    told = {"bundle": sha, "proposed_as": proposal.to, "share": proposal.share, "by": proposal.by}
    if as_json:
        print_json(told)
    else:
        click.echo(
            f"proposed: nothing has moved yet. Another person approves with `candor models approve {sha[:12]}`"
        )


def print_pointer(pointer: Pointer, *, as_json: bool) -> None:
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
