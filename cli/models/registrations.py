"""A registered bundle as JSON and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from candor.clock import format_rfc3339
from candor.registry.registry_table import Registration


def registration_json(registration: Registration) -> dict[str, Any]:
    """JSON form of a registered bundle."""
    proposal = registration.proposal
    return {
        "bundle": registration.bundle,
        "state": registration.state,
        "run": registration.run,
        "created_at": format_rfc3339(registration.created_at),
        "promoted_at": format_rfc3339(registration.promoted_at) if registration.promoted_at else None,
        "refused": [f"{gate}: {reason}" for gate, reason in registration.gates],
        "proposal": proposal
        and {
            "to": proposal.to,
            "share": proposal.share,
            "by": proposal.by,
            "at": format_rfc3339(proposal.at),
            "why": proposal.why,
        },
        "package": registration.package,
        "metrics": dict(registration.metrics),
    }


def proposal_text(proposal: Mapping[str, Any] | None) -> str:
    return "" if proposal is None else f"proposed as {proposal['to']} by {proposal['by']}"
