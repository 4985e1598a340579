"""`candor models challenge`: let a bundle decide for a share of the customers."""

from __future__ import annotations

import click

from candor.clock import SystemClock
from candor.registry.lifecycle import CHALLENGER, Proposal
from cli.actors import actor, actor_options, second_person_required
from cli.models.changes import bundle_with_file, print_pointer, propose
from cli.options import common
from cli.stage import Stage


@click.command("challenge")
@click.argument("bundle", required=False)
@click.option("--share", type=float, help="Share of the customers, above 0 and below 1.")
@click.option("--next", "grow", is_flag=True, help="The next larger share of the stage's canary steps.")
@click.option("--end", is_flag=True, help="End the challenge: the champion decides for everyone.")
@actor_options
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
    """Let BUNDLE decide for a share of the customers: one write, in effect from the next request.

    Each customer stays with one bundle; a larger share keeps the customers of the smaller one. Every record names
    the deciding bundle and its propensity.
    """
    if end == bool(bundle) or bool(bundle) != ((share is not None) != grow):
        raise click.UsageError("give BUNDLE and --share, or BUNDLE and --next, or --end alone")
    if bundle is None:
        print_pointer(
            stage.registry.end_challenge(by=by, at=SystemClock().now_ms(), why=why), as_json=as_json
        )
        return
    sha = bundle_with_file(stage, bundle)
    new_share = share if share is not None else next_share(stage, sha)
    proposer = actor(stage, by, why)
    if second_person_required(stage):
        proposal = Proposal(CHALLENGER, proposer.by, proposer.at, proposer.why, proposer.identity, new_share)
        propose(stage, sha, proposal, as_json=as_json)
        return
    print_pointer(
        stage.registry.challenge(sha, new_share, by=proposer.by, at=proposer.at, why=proposer.why),
        as_json=as_json,
    )


def next_share(stage: Stage, sha: str) -> float:
    """Next larger share of the stage's canary steps; the first for a bundle that is not the challenger."""
    steps = [float(step) for step in stage.output("CanaryShares").split(",") if step]
    challenger = stage.registry.pointer().challenger
    current = challenger.share if challenger and challenger.bundle == sha else 0.0
    next_step = next((step for step in steps if step > current), None)
    if next_step is None:
        raise click.ClickException(
            f"no step of the canary is above {current:.1%}: promote it, or give --share"
        )
    return next_step
