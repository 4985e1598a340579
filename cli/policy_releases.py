"""Policy releases of a stage, and the difference between the released table and the code's."""

from __future__ import annotations

from typing import Any

from candor.clock import format_rfc3339
from candor.model.policy_document import PolicyDocument
from candor.registry.artifacts import s3_client
from candor.registry.policy_releases import PolicyReleases
from candor.registry.registry_table import PolicyRelease
from candor.registry.training_run import PinnedPolicy
from cli.stage import Stage
from lender import DEFINITIONS, REASONS, policy


def policy_releases(stage: Stage) -> PolicyReleases:
    """Policy releases of a stage."""
    return PolicyReleases(
        s3=s3_client(),
        registry=stage.registry,
        bundles=stage.output("BundlesBucketName"),
        definitions=DEFINITIONS,
    )


def code_difference(releases: PolicyReleases) -> str | None:
    """Notice that the code's policy is not the released one; None if it is, or before the first release."""
    in_force = releases.registry.pointer().policy
    pinned = PinnedPolicy(in_force.number if in_force else None, releases.in_force())
    return pinned.difference(PolicyDocument.of(policy(), REASONS))


def release_json(release: PolicyRelease) -> dict[str, Any]:
    """JSON form of a policy release."""
    proposal = release.proposal
    return {
        "release": release.number,
        "state": release.state,
        "table": release.policy,
        "replaces": {"release": release.replaces.number, "table": release.replaces.policy},
        "proposed_by": proposal and proposal.by,
        "proposed_at": format_rfc3339(release.created_at),
        "why": proposal and proposal.why,
        "bundles": dict(release.renamed),
    }


def release_of(stage: Stage, policy_hash: str, decided_at: int) -> int | None:
    """Number of the release whose table decided at a moment (ms UTC); None if the table came from a training run."""
    return next(
        (
            release.number
            for release in stage.registry.releases()
            if release.policy == policy_hash and release.renamed and release.created_at <= decided_at
        ),
        None,
    )
