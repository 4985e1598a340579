"""Lifecycle of a bundle: candidate → shadow → challenger → champion → retired, or refused; with its audit.

A bundle's state is derived from the pointer, so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from candor.errors import BundleRefused, CandorError
from candor.registry.pointer import Pointer

State = Literal["refused", "candidate", "shadow", "challenger", "champion", "retired"]

REFUSED: Final = "refused"
CANDIDATE: Final = "candidate"
SHADOW: Final = "shadow"
CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
RETIRED: Final = "retired"

PROPOSED: Final = "proposed"
RELEASED: Final = "released"
"""States of a policy release, which ends as retired."""

ALLOWED: Final[Mapping[str | None, frozenset[str]]] = {
    None: frozenset({CANDIDATE, REFUSED}),
    REFUSED: frozenset({CANDIDATE}),
    CANDIDATE: frozenset({SHADOW, CHALLENGER, CHAMPION, REFUSED}),
    SHADOW: frozenset({CANDIDATE, CHALLENGER, CHAMPION, RETIRED}),
    CHALLENGER: frozenset({CANDIDATE, SHADOW, CHAMPION, RETIRED}),
    CHAMPION: frozenset({SHADOW, CHALLENGER, RETIRED}),
    RETIRED: frozenset({SHADOW, CHALLENGER, CHAMPION}),
}
"""Allowed transitions; None is the state before the gates. A refused bundle must pass the gates again first."""


class ApprovalRefused(CandorError):
    """The approver is the proposer, or there is no proposal."""


@dataclass(frozen=True)
class Actor:
    """Actor of a transition, with its moment (ms UTC) and reason. `identity` is the AWS identity, or empty."""

    by: str
    at: int
    why: str = ""
    identity: str = ""


@dataclass(frozen=True)
class Proposal:
    """Proposal that a second person must approve: a bundle as `champion`, or as `challenger` for a share."""

    to: str
    by: str
    at: int
    why: str = ""
    identity: str = ""
    share: float | None = None

    def approved_by(self, actor: Actor) -> Actor:
        """The approver as actor, naming the proposer. Raises ApprovalRefused if both are the same person."""
        if actor.by == self.by or (self.identity and actor.identity == self.identity):
            raise ApprovalRefused(
                f"{self.by} proposed it: somebody else must approve, with their own credentials"
            )
        return Actor(
            actor.by, actor.at, f"approved: {self.by} proposed it{_because(self.why)}", actor.identity
        )


@dataclass(frozen=True)
class Transition:
    """Audit line: a transition of a bundle (from None if new), with moment (ms UTC), actor and reason."""

    bundle: str
    before: str | None
    after: str
    at: int
    by: str
    why: str = ""
    identity: str = ""


def state_in(pointer: Pointer, sha: str, resting: str) -> str:
    """State of a bundle by the pointer; `resting` if the pointer does not name it."""
    if pointer.bundle == sha:
        return CHAMPION
    if pointer.challenger and pointer.challenger.bundle == sha:
        return CHALLENGER
    return SHADOW if sha in pointer.shadows else resting


def named(*pointers: Pointer) -> list[str]:
    """Bundles that the pointers name, each once."""
    names = [
        sha
        for each in pointers
        for sha in (each.bundle, each.challenger and each.challenger.bundle, *each.shadows)
        if sha
    ]
    return list(dict.fromkeys(names))


def transition(bundle: str, before: str | None, after: str, actor: Actor) -> Transition:
    """A transition. Raises BundleRefused if it is not allowed."""
    if after not in ALLOWED[before]:
        raise BundleRefused(f"bundle {bundle[:12]} is {before or 'unknown'}: it cannot become {after}")
    return Transition(bundle, before, after, actor.at, actor.by, actor.why, actor.identity)


def _because(why: str) -> str:
    return f" ({why})" if why else ""
