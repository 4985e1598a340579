"""`candor models …`: who decides, who decides beside it, who only looks on; and by whose word that changes."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from candor.clock import SystemClock, format_rfc3339
from candor.registry.artifacts import require_bundle, s3_client
from candor.registry.lifecycle import CHALLENGER, CHAMPION, Actor, Proposal
from candor.registry.pointer import Pointer
from cli.model_reports import (
    compare_command,
    history_command,
    list_command,
    named_bundle,
    report_command,
    show_command,
)
from cli.monitoring import monitor_command
from cli.options import common, print_json, print_pairs
from cli.stage import Stage

F = TypeVar("F", bound=Callable[..., Any])

TWO_PERSONS: Final = "second_person"
"""How a stage says that somebody else must approve."""


@click.group()
def models() -> None:
    """Models: what there is, who decides, who decides beside it, and how it came to that."""


for _command in (list_command, show_command, compare_command, history_command, report_command):
    models.add_command(_command)


def _word(command: F) -> F:
    """Options that say by whose word something moves, and why."""
    by = click.option("--by", default=getpass.getuser, help="Who says so; kept with it. Default: your user.")
    return by(click.option("--why", default="", help="Why; kept in the audit.")(command))


@models.command("promote")
@click.argument("bundle")
@_word
@common
def promote_command(bundle: str, by: str, why: str, stage: Stage, *, as_json: bool) -> None:
    """Let BUNDLE decide for everyone, from the next request on: one write.

    Where the stage asks for a second person this only proposes it: somebody else then says `candor
    models approve`.
    """
    sha = _with_file(stage, bundle)
    word = _spoken(stage, by, why)
    if stage.output("PromotionApproval") == TWO_PERSONS:
        _propose(stage, sha, Proposal(CHAMPION, word.by, word.at, word.why, word.identity), as_json=as_json)
        return
    _print(stage.registry.promote(sha, by=word.by, at=word.at, why=word.why), as_json=as_json)


@models.command("approve")
@click.argument("bundle")
@_word
@common
def approve_command(bundle: str, by: str, why: str, stage: Stage, *, as_json: bool) -> None:
    """Do what somebody else proposed of BUNDLE: a promotion, or a challenge.

    You must be another person than who proposed it, by name and by AWS identity.
    """
    sha = _with_file(stage, bundle)
    _print(stage.registry.approve(sha, _spoken(stage, by, why)), as_json=as_json)


@models.command("rollback")
@_word
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
    _print(registry.restore(by=by, at=SystemClock().now_ms(), why=why), as_json=as_json)


models.add_command(monitor_command)


@models.command("challenge")
@click.argument("bundle", required=False)
@click.option("--share", type=float, help="Share of the customers, above 0 and below 1.")
@click.option("--next", "grow", is_flag=True, help="The next larger share of the stage's canary steps.")
@click.option("--end", is_flag=True, help="End the challenge: the champion decides for everyone.")
@_word
@common
def challenge_command(
    bundle: str | None,
    share: float | None,
    by: str,
    why: str,
    stage: Stage,
    *,
    grow: bool,
    end: bool,
    as_json: bool,
) -> None:
    """Let BUNDLE decide for a share of the customers, from the next request on: one write.

    Each customer stays on one side; a larger share keeps those who were in. Every record names the
    bundle that decided and how probable that was.
    """
    if end == bool(bundle) or bool(bundle) != ((share is not None) != grow):
        raise click.UsageError("give BUNDLE and --share, or BUNDLE and --next, or --end alone")
    if bundle is None:
        _print(stage.registry.end_challenge(by=by, at=SystemClock().now_ms(), why=why), as_json=as_json)
        return
    sha = _with_file(stage, bundle)
    asked = share if share is not None else next_share(stage, sha)
    word = _spoken(stage, by, why)
    if stage.output("PromotionApproval") == TWO_PERSONS:
        proposal = Proposal(CHALLENGER, word.by, word.at, word.why, word.identity, asked)
        _propose(stage, sha, proposal, as_json=as_json)
        return
    _print(stage.registry.challenge(sha, asked, by=word.by, at=word.at, why=word.why), as_json=as_json)


@models.command("shadow")
@click.argument("bundles", metavar="[BUNDLE]...", nargs=-1)
@click.option("--none", "nobody", is_flag=True, help="No bundle scores in the shadow any more.")
@_word
@common
def shadow_command(
    bundles: tuple[str, ...], by: str, why: str, stage: Stage, *, nobody: bool, as_json: bool
) -> None:
    """Let exactly these bundles score every decision after it was made; they decide nothing.

    What they say is in the archive, under `shadows/`, a minute or two later.
    """
    if nobody == bool(bundles):
        raise click.UsageError("give one BUNDLE or more, or --none alone")
    shas = [_with_file(stage, bundle) for bundle in bundles]
    _print(stage.registry.shadow(shas, by=by, at=SystemClock().now_ms(), why=why), as_json=as_json)


def next_share(stage: Stage, sha: str) -> float:
    """The next larger share of the stage's canary steps; the first for one that does not challenge yet."""
    steps = [float(step) for step in stage.output("CanaryShares").split(",") if step]
    challenger = stage.registry.pointer().challenger
    present = challenger.share if challenger and challenger.bundle == sha else 0.0
    found = next((step for step in steps if step > present), None)
    if found is None:
        raise click.ClickException(
            f"no step of the canary is above {present:.1%}: promote it, or give --share"
        )
    return found


def _with_file(stage: Stage, bundle: str) -> str:
    """The whole name of a bundle whose file is there."""
    sha = named_bundle(stage, bundle)
    require_bundle(s3_client(), stage.output("BundlesBucketName"), sha)
    return sha


def _spoken(stage: Stage, by: str, why: str) -> Actor:
    """AWS is asked who it is only where that matters."""
    asked = stage.output("PromotionApproval") == TWO_PERSONS
    return Actor(by, SystemClock().now_ms(), why, stage.identity() if asked else "")


def _propose(stage: Stage, sha: str, proposal: Proposal, *, as_json: bool) -> None:
    stage.registry.propose(sha, proposal)
    told = {"bundle": sha, "proposed_as": proposal.to, "share": proposal.share, "by": proposal.by}
    if as_json:
        print_json(told)
    else:
        click.echo(
            f"proposed: nothing has moved yet. Another person approves with `candor models approve {sha[:12]}`"
        )


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
