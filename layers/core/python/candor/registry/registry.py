"""The registry: every bundle that a run made with its life so far, and the one pointer that says what serves.

That is a bundle, and the version of every view that does not serve as it is declared. Whatever moves the pointer writes
the bundles' new states and a line of the audit for each with it, in one transaction.
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
"""So many flips stay on the pointer; each rollback takes one back."""

_RUNNING, _DONE = "running", "done"


class NothingToRollBack(CandorError):
    """There is nothing before what serves."""


@dataclass(frozen=True)
class Backfill:
    """A view's version being filled from the archive: begun when (ms UTC), and `done` once all of it is in."""

    version: str
    started_at: int
    done: bool


class Registry:
    """One registry table. Raises StoreUnavailable where DynamoDB does not answer."""

    def __init__(self, table: str) -> None:
        self._table = RegistryTable(table)

    # Bundles

    def register(self, verdict: Registration, by: str = "gates") -> Registration:
        """Write down what the gates said of a bundle; what is known of it then.

        The same verdict again changes nothing. Another one replaces it as long as the bundle does nothing: what serves
        or served is not taken away by a later evaluation, that is for a person. Raises PromotionConflict.
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
        """What is known of a bundle, or None."""
        return self._table.registration(sha)

    def registrations(self) -> list[Registration]:
        """Every bundle, the newest first; reads the whole table, which holds a few lines for each."""
        return self._table.registrations()

    def history(self, sha: str) -> list[Transition]:
        """The audit of a bundle, oldest line first; empty for one that is unknown."""
        known = self.registration(sha)
        return self._table.lines(known) if known else []

    def note_package(self, sha: str, package: str) -> None:
        """Remember a bundle's entry in SageMaker's model registry."""
        known = self._known(sha)
        self._table.save(replace(known, package=package))

    # The pointer

    def pointer(self) -> Pointer:
        """What serves now."""
        return self._table.pointer()

    def promote(self, sha: str, *, by: str, at: int, why: str = "", identity: str = "") -> Pointer:
        """Point at a bundle that passed its gates. Already champion: nothing changes.

        Raises BundleRefused for an unknown bundle or one whose gates refused it, PromotionConflict if the pointer moved
        between reading and writing.
        """
        self._require(sha)
        seen = self.pointer()
        if seen.bundle == sha:
            return seen
        actor = Actor(by, at, why or "promoted", identity)
        return self._move(seen, seen.promoted(sha, by=by, at=at), actor, succeeds=True)

    def restore(self, *, by: str, at: int, why: str = "", identity: str = "") -> Pointer:
        """Point back at the champion that the present one replaced. Raises NothingToRollBack, PromotionConflict."""
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
        """Let a bundle decide for a share of the customers, instead of any other challenger.

        Raises BundleRefused for an unknown or refused bundle, for the champion and for a share that is none,
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
        """The champion decides for everyone. Without a challenger nothing changes. Raises PromotionConflict."""
        seen = self.pointer()
        if seen.challenger is None:
            return seen
        return self._move(seen, replace(seen, challenger=None), Actor(by, at, why or "the challenge ended"))

    def shadow(self, shas: Sequence[str], *, by: str = "", at: int = 0, why: str = "") -> Pointer:
        """Let exactly these bundles score what is decided. Raises BundleRefused, PromotionConflict."""
        for sha in shas:
            self._require(sha)
        seen = self.pointer()
        wanted = list(dict.fromkeys(shas))
        if wanted == list(seen.shadows):
            return seen
        return self._move(seen, replace(seen, shadows=wanted), Actor(by, at, why or "the shadows were named"))

    # Two persons

    def propose(self, sha: str, proposal: Proposal) -> Registration:
        """Write down what somebody wants of a bundle, in place of what was proposed before. Nothing moves yet.

        Raises BundleRefused for a bundle that may not serve, PromotionConflict.
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
        """Do what was proposed of a bundle, by the word of a second person.

        Raises ApprovalRefused for the same person or where nothing was proposed, and what the move itself raises.
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
        """Serve another version of a view, None for the declared one. It serves already: nothing changes.

        Raises PromotionConflict if the pointer moved between reading and writing.
        """
        seen = self.pointer()
        before = seen.views.get(view)
        if before == version:
            return seen
        switches = [*seen.switches, VersionSwitch(view, before, version, at, by)][-SWITCHES_KEPT:]
        return self._move(seen, replace(seen, views=_with(seen.views, view, version), switches=switches))

    def roll_back(self, view: str) -> Pointer:
        """Take the latest flip of a view back. Raises NothingToRollBack, PromotionConflict."""
        seen = self.pointer()
        view_switches = [switch for switch in seen.switches if switch.view == view]
        if not view_switches:
            raise NothingToRollBack(f'view "{view}" serves as it is declared: there is no flip to take back')
        left = [switch for switch in seen.switches if switch is not view_switches[-1]]
        return self._move(
            seen, replace(seen, views=_with(seen.views, view, view_switches[-1].before), switches=left)
        )

    def begin_backfill(self, version: str, at: int) -> Backfill:
        """Note that the filling of `view@version` begins; one that was begun before goes on as of then."""
        key = f"backfill#{version}"
        self._table.note(key, RegistryItem.pk.does_not_exist(), state=_RUNNING, created_at=at)
        backfill = self.backfill(version)
        assert backfill is not None
        return backfill

    def finish_backfill(self, version: str) -> None:
        """Note that `view@version` holds all of the archive."""
        begun = self.backfill(version)
        if begun is not None:
            key, there = f"backfill#{version}", RegistryItem.pk.exists()
            self._table.note(key, there, state=_DONE, created_at=begun.started_at)

    def backfill(self, version: str) -> Backfill | None:
        """What is known of the filling of `view@version`, or None."""
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
        """Write the pointer as the next after what was seen, and the states of the bundles that it names or named."""
        moved = replace(wanted, moves=seen.moves + 1)
        changes = self._changes(seen, moved, actor, seen.bundle if succeeds else None) if actor else []
        self._table.write(changes, moved)
        return moved

    def _changes(self, seen: Pointer, moved: Pointer, actor: Actor, succeeded: str | None) -> list[Change]:
        changes = []
        for sha in named(seen, moved):
            known = self.registration(sha)
            if known is None:  # named before bundles had a life of their own
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
    """BundleRefused unless it is above 0 and below 1."""
    if not 0.0 < share < 1.0:
        raise BundleRefused("a challenger's share is above 0 and below 1: for all there is a promotion")


def _shared(before: Pointer, after: Pointer, sha: str) -> bool:
    """Whether the bundle challenges before and after, for another share."""
    both = (before.challenger, after.challenger)
    shares = {challenge.share for challenge in both if challenge and challenge.bundle == sha}
    return len(shares) == 2


def _with(views: Mapping[str, str], view: str, version: str | None) -> dict[str, str]:
    """The versions in service once `view` serves `version`."""
    others = {name: serving for name, serving in views.items() if name != view}
    return others if version is None else {**others, view: version}
