"""A bundle's life: candidate → shadow → challenger → champion → retired, refused aside; and by whose word it moved.

The pointer says what a bundle does now; its state follows from that, so that the two can never disagree.
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

ALLOWED: Final[Mapping[str | None, frozenset[str]]] = {
    None: frozenset({CANDIDATE, REFUSED}),
    REFUSED: frozenset({CANDIDATE}),
    CANDIDATE: frozenset({SHADOW, CHALLENGER, CHAMPION, REFUSED}),
    SHADOW: frozenset({CANDIDATE, CHALLENGER, CHAMPION, RETIRED}),
    CHALLENGER: frozenset({CANDIDATE, SHADOW, CHAMPION, RETIRED}),
    CHAMPION: frozenset({SHADOW, CHALLENGER, RETIRED}),
    RETIRED: frozenset({SHADOW, CHALLENGER, CHAMPION}),
}
"""What may follow a state; None is before the gates. A refused bundle does nothing until new gates let it through."""


class ApprovalRefused(CandorError):
    """Who approves is who proposed, or nothing was proposed."""


@dataclass(frozen=True)
class Actor:
    """By whose word something moves, when (ms UTC) and why. `identity` is who AWS says it was; empty where nobody asked."""

    by: str
    at: int
    why: str = ""
    identity: str = ""


@dataclass(frozen=True)
class Proposal:
    """What somebody wants of a bundle and another person must approve: `champion`, or `challenger` for a share."""

    to: str
    by: str
    at: int
    why: str = ""
    identity: str = ""
    share: float | None = None

    def approved_by(self, actor: Actor) -> Actor:
        """The word of both. Raises ApprovalRefused for one and the same person, by name or by AWS identity."""
        if actor.by == self.by or (self.identity and actor.identity == self.identity):
            raise ApprovalRefused(
                f"{self.by} proposed it: somebody else must approve, with their own credentials"
            )
        return Actor(
            actor.by, actor.at, f"approved: {self.by} proposed it{_because(self.why)}", actor.identity
        )


@dataclass(frozen=True)
class Transition:
    """One line of the audit: a bundle came from a state (None: it was made) to one, by whose actor, when (ms UTC) and why."""

    bundle: str
    before: str | None
    after: str
    at: int
    by: str
    why: str = ""
    identity: str = ""


def state_in(pointer: Pointer, sha: str, resting: str) -> str:
    """What the pointer makes of a bundle; `resting` where it makes nothing of it."""
    if pointer.bundle == sha:
        return CHAMPION
    if pointer.challenger and pointer.challenger.bundle == sha:
        return CHALLENGER
    return SHADOW if sha in pointer.shadows else resting


def named(*pointers: Pointer) -> list[str]:
    """Every bundle that one of the pointers names, once."""
    names = [
        sha
        for each in pointers
        for sha in (each.bundle, each.challenger and each.challenger.bundle, *each.shadows)
        if sha
    ]
    return list(dict.fromkeys(names))


def transition(bundle: str, before: str | None, after: str, actor: Actor) -> Transition:
    """One step. Raises BundleRefused if it may not follow."""
    if after not in ALLOWED[before]:
        raise BundleRefused(f"bundle {bundle[:12]} is {before or 'unknown'}: it cannot become {after}")
    return Transition(bundle, before, after, actor.at, actor.by, actor.why, actor.identity)


def _because(why: str) -> str:
    return f" ({why})" if why else ""
