"""Bundle, proposal and output of the commands that move the pointer."""

from __future__ import annotations

from typing import Any

import click

from candor.clock import format_rfc3339
from candor.registry.artifacts import require_bundle, s3_client
from candor.registry.lifecycle import Proposal
from candor.registry.pointer import Pointer
from cli.bundles import resolve_bundle
from cli.output import print_json, print_pairs
from cli.stage import Stage


def bundle_with_file(stage: Stage, bundle: str) -> str:
    """Full name of a bundle whose file exists. Raises BundleRefused."""
    sha = resolve_bundle(stage, bundle)
    require_bundle(s3_client(), stage.output("BundlesBucketName"), sha)
    return sha


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
