"""Output of the commands that release policies."""

from __future__ import annotations

from candor.registry.pointer import Pointer
from candor.registry.registry_table import PolicyRelease
from cli.output import print_json, print_pairs
from cli.policy_releases import release_json


def print_release(release: PolicyRelease, notice: str | None) -> None:
    """Print a release as a table, with the notice that the code's table differs."""
    replaced = release.replaces
    print_pairs(
        {
            "release": release.number,
            "state": release.state,
            "table": f"{replaced.policy[:12]} -> {release.policy[:12]}",
            "bundles": "\n".join(
                f"{before[:12]} -> {after[:12]}" for before, after in release.renamed.items()
            )
            or "none yet",
            "notice": notice or "none",
        }
    )


def print_policy_in_force(
    pointer: Pointer, release: PolicyRelease | None, notice: str | None, *, as_json: bool
) -> None:
    """Print what decides after a release or its rollback."""
    policy, challenger = pointer.policy, pointer.challenger
    summary = {
        "release": policy.number if policy else None,
        "table": policy.policy if policy else None,
        "champion": pointer.bundle,
        "challenger": challenger.bundle if challenger else None,
        "notice": notice,
    }
    if as_json:
        print_json({**summary, "released": release_json(release) if release else None})
    else:
        print_pairs({name: "none" if value is None else value for name, value in summary.items()})
