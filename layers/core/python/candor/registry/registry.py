"""The registry: all bundles with their audit, and the pointer to what serves.

Each move of the pointer is recorded atomically with the bundles' new states and their audit lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from candor.errors import BundleRefused, CandorError
from candor.registry.lifecycle import (
    CANDIDATE,
    CHALLENGER,
    REFUSED,
    Actor,
    ApprovalRefused,
    Proposal,
    Transition,
    named,
    state_in,
    transition,
)
from candor.registry.pointer import Challenge, Pointer, VersionSwitch
from candor.registry.registry_table import Change, Registration, RegistryItem, RegistryTable

SWITCHES_KEPT: Final = 20
"""Number of version switches kept on the pointer; each rollback reverts one."""

_RUNNING, _DONE = "running", "done"


class NothingToRollBack(CandorError):
    """Nothing served before."""


@dataclass(frozen=True)
class Backfill:
    """Backfill of a view's version from the archive: its start (ms UTC), and whether it is `done`."""

    version: str
    started_at: int
    done: bool


class Registry:
    """The registry in one table. Raises StoreUnavailable if DynamoDB fails."""

    def __init__(self, table: str) -> None:
        self._table = RegistryTable(table)

    # Bundles

    def register(self, verdict: Registration, by: str = "gates") -> Registration:
        """Record the gates' verdict on a bundle; returns its registration.

        An equal verdict changes nothing; another one replaces it only while the bundle is candidate or refused: a
        bundle that serves or served is withdrawn by a person, not by a later evaluation. Raises PromotionConflict.
        """
        known = self.registration(verdict.bundle)
        if known is not None and (known.state == verdict.state or known.state not in (CANDIDATE, REFUSED)):
            return known
        why = "; ".join(f"{gate}: {reason}" for gate, reason in verdict.gates) or "every gate passed"
        line = transition(
            verdict.bundle, known.state if known else None, verdict.state, Actor(by, verdict.created_at, why)
        )
        begun = replace(
            verdict, steps=known.steps if known else 0, package=known.package if known else verdict.package
        )
        made = begun.stepped(line)
        self._table.write([(made, line)])
        return made

    def registration(self, sha: str) -> Registration | None:
        """Registration of a bundle, or None."""
        return self._table.registration(sha)

    def registrations(self) -> list[Registration]:
        """All bundles, newest first; scans the table, which holds a few lines per bundle."""
        return self._table.registrations()

    def history(self, sha: str) -> list[Transition]:
        """Audit of a bundle, oldest line first; empty if it is unknown."""
        known = self.registration(sha)
        return self._table.lines(known) if known else []

    def note_package(self, sha: str, package: str) -> None:
        """Record a bundle's entry in SageMaker's model registry."""
        known = self._known(sha)
        self._table.save(replace(known, package=package))

    # The pointer

    def pointer(self) -> Pointer:
        """The current pointer."""
        return self._table.pointer()

    def promote(self, sha: str, *, by: str, at: int, why: str = "", identity: str = "") -> Pointer:
        """Make a bundle the champion; no change if it already is.

        Raises BundleRefused for an unknown or refused bundle, PromotionConflict if the pointer moved between reading
        and writing.
        """
        self._require(sha)
        seen = self.pointer()
        if seen.bundle == sha:
            return seen
        actor = Actor(by, at, why or "promoted", identity)
        return self._move(seen, seen.promoted(sha, by=by, at=at), actor, succeeds=True)

    def restore(self, *, by: str, at: int, why: str = "", identity: str = "") -> Pointer:
        """Roll back to the champion that the current one replaced. Raises NothingToRollBack, PromotionConflict."""
        seen = self.pointer()
        serving = self.registration(seen.bundle) if seen.bundle else None
        if serving is None or serving.succeeded is None:
            raise NothingToRollBack("no champion served before this one: promote another bundle")
        self._require(serving.succeeded)
        actor = Actor(by, at, why or "rolled back", identity)
        return self._move(seen, seen.promoted(serving.succeeded, by=by, at=at), actor)

    def challenge(
        self, sha: str, share: float, *, by: str, at: int, why: str = "", identity: str = ""
    ) -> Pointer:
        """Make a bundle the challenger for a share of the customers, in place of any other.

        Raises BundleRefused for an unknown or refused bundle, for the champion and for an invalid share,
        PromotionConflict if the pointer moved between reading and writing.
        """
        self._require(sha)
        require_share(share)
        seen = self.pointer()
        if seen.bundle == sha:
            raise BundleRefused(f"bundle {sha[:12]} is the champion: name another challenger")
        actor = Actor(by, at, why or f"decides for {share:.1%} of the customers", identity)
        return self._move(seen, replace(seen, challenger=Challenge(sha, share, at, by)), actor)

    def end_challenge(self, *, by: str = "", at: int = 0, why: str = "") -> Pointer:
        """End the challenge; no change without one. Raises PromotionConflict."""
        seen = self.pointer()
        if seen.challenger is None:
            return seen
        return self._move(seen, replace(seen, challenger=None), Actor(by, at, why or "the challenge ended"))

    def shadow(self, shas: Sequence[str], *, by: str = "", at: int = 0, why: str = "") -> Pointer:
        """Make exactly these bundles the shadows. Raises BundleRefused, PromotionConflict."""
        for sha in shas:
            self._require(sha)
        seen = self.pointer()
        wanted = list(dict.fromkeys(shas))
        if wanted == list(seen.shadows):
            return seen
        return self._move(seen, replace(seen, shadows=wanted), Actor(by, at, why or "the shadows were named"))

    # Approval by a second person

    def propose(self, sha: str, proposal: Proposal) -> Registration:
        """Record a proposal for a bundle, in place of an earlier one; the pointer does not move.

        Raises BundleRefused for an unknown or refused bundle, PromotionConflict.
        """
        known = self._require(sha)
        if proposal.share is not None:
            require_share(proposal.share)
        share = "" if proposal.share is None else f" for {proposal.share:.1%} of the customers"
        why = f"proposed as {proposal.to}{share}{f': {proposal.why}' if proposal.why else ''}"
        line = Transition(
            sha, known.state, known.state, proposal.at, proposal.by, why, proposal.identity
        )  # fmt: skip
        made = replace(known, proposal=proposal, steps=known.steps + 1)
        self._table.write([(made, line)])
        return made

    def approve(self, sha: str, actor: Actor) -> Pointer:
        """Carry out a bundle's proposal, approved by a second person.

        Raises ApprovalRefused for the same person or without a proposal, and whatever `promote` or `challenge` raises.
        """
        known = self._require(sha)
        proposal = known.proposal
        if proposal is None:
            raise ApprovalRefused(
                f"nothing is proposed of bundle {sha[:12]}: `candor models promote` proposes"
            )
        approved = asdict(proposal.approved_by(actor))
        if proposal.to == CHALLENGER and proposal.share is not None:
            return self.challenge(sha, proposal.share, **approved)
        return self.promote(sha, **approved)

    # Views

    def switch_version(self, view: str, version: str | None, *, by: str, at: int) -> Pointer:
        """Serve another version of a view, None for the declared one; no change if it already serves.

        Raises PromotionConflict if the pointer moved between reading and writing.
        """
        seen = self.pointer()
        before = seen.views.get(view)
        if before == version:
            return seen
        switches = [*seen.switches, VersionSwitch(view, before, version, at, by)][-SWITCHES_KEPT:]
        return self._move(seen, replace(seen, views=_with(seen.views, view, version), switches=switches))

    def roll_back(self, view: str) -> Pointer:
        """Revert the latest version switch of a view. Raises NothingToRollBack, PromotionConflict."""
        seen = self.pointer()
        view_switches = [switch for switch in seen.switches if switch.view == view]
        if not view_switches:
            raise NothingToRollBack(
                f'view "{view}" serves as it is declared: there is no switch to roll back'
            )
        left = [switch for switch in seen.switches if switch is not view_switches[-1]]
        return self._move(
            seen, replace(seen, views=_with(seen.views, view, view_switches[-1].before), switches=left)
        )

    def begin_backfill(self, version: str, at: int) -> Backfill:
        """Record the start of a backfill of `view@version`; one already started keeps its start."""
        key = f"backfill#{version}"
        self._table.note(key, RegistryItem.pk.does_not_exist(), state=_RUNNING, created_at=at)
        backfill = self.backfill(version)
        assert backfill is not None
        return backfill

    def finish_backfill(self, version: str) -> None:
        """Record that `view@version` holds all of the archive."""
        begun = self.backfill(version)
        if begun is not None:
            key, there = f"backfill#{version}", RegistryItem.pk.exists()
            self._table.note(key, there, state=_DONE, created_at=begun.started_at)

    def backfill(self, version: str) -> Backfill | None:
        """Backfill of `view@version`, or None."""
        item = self._table.get(f"backfill#{version}")
        return Backfill(version, int(item.created_at or 0), item.state == _DONE) if item else None

    # Reading and writing

    def _known(self, sha: str) -> Registration:
        known = self.registration(sha)
        if known is None:
            raise BundleRefused(f"bundle {sha[:12]} is unknown: it cannot serve")
        return known

    def _require(self, sha: str) -> Registration:
        known = self._known(sha)
        if known.state == REFUSED:
            why = f" ({known.gates[0][0]}: {known.gates[0][1]})" if known.gates else ""
            raise BundleRefused(f"bundle {sha[:12]} is refused: it cannot serve{why}")
        return known

    def _move(
        self, seen: Pointer, wanted: Pointer, actor: Actor | None = None, *, succeeds: bool = False
    ) -> Pointer:
        """Write the pointer as the successor of `seen`, with the states of all bundles named by either."""
        moved = replace(wanted, moves=seen.moves + 1)
        changes = self._changes(seen, moved, actor, seen.bundle if succeeds else None) if actor else []
        self._table.write(changes, moved)
        return moved

    def _changes(self, seen: Pointer, moved: Pointer, actor: Actor, succeeded: str | None) -> list[Change]:
        changes = []
        for sha in named(seen, moved):
            known = self.registration(sha)
            if known is None:  # named before bundles were registered
                continue
            after = state_in(moved, sha, known.resting)
            if after == known.state and not _shared(seen, moved, sha):
                continue
            line = (
                transition(sha, known.state, after, actor)
                if after != known.state
                else Transition(sha, after, after, actor.at, actor.by, actor.why, actor.identity)
            )
            made = replace(known.stepped(line), proposal=None)
            if sha == moved.bundle and succeeded is not None:
                made = replace(made, succeeded=succeeded)
            changes.append((made, line))
        return changes


def require_share(share: float) -> None:
    """BundleRefused unless the share is above 0 and below 1."""
    if not 0.0 < share < 1.0:
        raise BundleRefused("a challenger's share is above 0 and below 1: to serve everyone, promote it")


def _shared(before: Pointer, after: Pointer, sha: str) -> bool:
    """True if the bundle challenges before and after, for another share."""
    both = (before.challenger, after.challenger)
    shares = {challenge.share for challenge in both if challenge and challenge.bundle == sha}
    return len(shares) == 2


def _with(views: Mapping[str, str], view: str, version: str | None) -> dict[str, str]:
    """Served versions once `view` serves `version`."""
    others = {name: serving for name, serving in views.items() if name != view}
    return others if version is None else {**others, view: version}
