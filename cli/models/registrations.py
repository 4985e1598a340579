"""A registered bundle as JSON and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from candor.clock import format_rfc3339
from candor.registry.registry_table import Registration


def listed(one: Registration) -> dict[str, Any]:
    """JSON form of a bundle."""
    proposal = one.proposal
    return {
        "bundle": one.bundle,
        "state": one.state,
        "run": one.run,
        "created_at": format_rfc3339(one.created_at),
        "promoted_at": format_rfc3339(one.promoted_at) if one.promoted_at else None,
        "refused": [f"{gate}: {reason}" for gate, reason in one.gates],
        "proposal": proposal
        and {
            "to": proposal.to,
            "share": proposal.share,
            "by": proposal.by,
            "at": format_rfc3339(proposal.at),
            "why": proposal.why,
        },
        "package": one.package,
        "metrics": dict(one.metrics),
    }


def proposal_text(proposal: Mapping[str, Any] | None) -> str:
    return "" if proposal is None else f"proposed as {proposal['to']} by {proposal['by']}"
