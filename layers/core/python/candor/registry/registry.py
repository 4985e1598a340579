"""The registry: all bundles with their audit, and the pointer to what serves.

Each move of the pointer is recorded atomically with the bundles' new states and their audit lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Final

from candor.errors import BundleRefused, CandorError
from candor.registry.lifecycle import (
    CANDIDATE,
    CHALLENGER,
    PROPOSED,
    REFUSED,
    RELEASED,
    RETIRED,
    Actor,
    ApprovalRefused,
    Proposal,
    Transition,
    named,
    state_in,
    transition,
)
from candor.registry.pointer import Challenge, Pointer, PolicyInForce, VersionSwitch
from candor.registry.registry_table import (
    Change,
    PolicyRelease,
    PromotionConflict,
    Registration,
    RegistryItem,
    RegistryTable,
)

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

    def register(self, verdict: Registration, by: str = "gates", why: str = "") -> Registration:
        """Record the gates' verdict on a bundle, or the reason `why` it is registered; returns its registration.

        An equal verdict changes nothing; another one replaces it only while the bundle is candidate or refused: a
        bundle that serves or served is withdrawn by a person, not by a later evaluation. Raises PromotionConflict.
        """
        known = self.registration(verdict.bundle)
        if known is not None and (known.state == verdict.state or known.state not in (CANDIDATE, REFUSED)):
            return known
        why = why or "; ".join(f"{gate}: {reason}" for gate, reason in verdict.gates) or "every gate passed"
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
        return self._table.lines(known.bundle, known.steps) if known else []

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

        Raises BundleRefused for an unknown or refused bundle and for one with another policy than the released one,
        PromotionConflict if the pointer moved between reading and writing.
        """
        known = self._require(sha)
        seen = self.pointer()
        if seen.bundle == sha:
            return seen
        require_policy(known, seen)
        actor = Actor(by, at, why or "promoted", identity)
        succeeded = {sha: seen.bundle} if seen.bundle else {}
        return self._move(seen, seen.promoted(sha, by=by, at=at), actor, succeeded)

    def previous(self) -> str:
        """The champion that the current one replaced. Raises NothingToRollBack."""
        serving = self.pointer().bundle
        known = self.registration(serving) if serving else None
        if known is None or known.succeeded is None:
            raise NothingToRollBack("no champion served before this one: promote another bundle")
        return known.succeeded

    def restore(
        self, sha: str | None = None, *, by: str, at: int, why: str = "", identity: str = ""
    ) -> Pointer:
        """Roll back to the champion that the current one replaced, or to `sha`: its model with the released policy.

        Raises NothingToRollBack, PromotionConflict, BundleRefused.
        """
        seen, target = self.pointer(), sha or self.previous()
        known = self._require(target)
        require_policy(known, seen)
        actor = Actor(by, at, why or "rolled back", identity)
        before = self._known(self.previous())
        succeeded = {} if target == before.bundle else {target: before.succeeded}
        return self._move(seen, seen.promoted(target, by=by, at=at), actor, succeeded)

    def challenge(
        self, sha: str, share: float, *, by: str, at: int, why: str = "", identity: str = ""
    ) -> Pointer:
        """Make a bundle the challenger for a share of the customers, in place of any other.

        Raises BundleRefused for an unknown or refused bundle, for the champion, for another policy than the released
        one and for an invalid share, PromotionConflict if the pointer moved between reading and writing.
        """
        known = self._require(sha)
        require_share(share)
        seen = self.pointer()
        require_policy(known, seen)
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

    # Policy releases

    def release(self, number: int) -> PolicyRelease | None:
        """A policy release, or None."""
        return self._table.release(number)

    def releases(self) -> list[PolicyRelease]:
        """All policy releases, newest first."""
        return self._table.releases()

    def release_history(self, release: PolicyRelease) -> list[Transition]:
        """Audit of a policy release, oldest line first."""
        return self._table.lines(release.name, release.steps)

    def propose_policy(
        self, digest: str, policy: str, replaces: PolicyInForce, proposal: Proposal
    ) -> PolicyRelease:
        """Record a proposal of a policy; the pointer does not move. Raises PromotionConflict."""
        number = max((release.number for release in self.releases()), default=0) + 1
        release = PolicyRelease(number, digest, policy, replaces, PROPOSED, proposal.at, proposal, steps=1)
        actor = Actor(proposal.by, proposal.at, proposal.why, proposal.identity)
        self._table.write([(release, _release_line(release, None, actor, replaces.policy, policy))])
        return release

    def release_policy(
        self, release: PolicyRelease, renamed: Mapping[str, str], seen: Pointer, actor: Actor
    ) -> Pointer:
        """Put a proposed policy in force: every deciding bundle moves to its namesake in `renamed`, in one write.

        `seen` is the pointer that `renamed` was made for. Raises PromotionConflict if it moved, or if another policy is
        in force than the one that the release was proposed against.
        """
        if release.state != PROPOSED:
            raise ApprovalRefused(f"release {release.number} is {release.state}: propose the table again")
        if seen.policy is not None and seen.policy.digest != release.replaces.digest:
            raise PromotionConflict(
                f"the table {seen.policy.policy[:12]} was released since release {release.number} was proposed against "
                f"{release.replaces.policy[:12]}: look at it, and propose again"
            )
        policy = PolicyInForce(release.number, release.digest, release.policy, actor.at, actor.by)
        made = replace(release.stepped(RELEASED), renamed=dict(renamed))
        line = _release_line(release, RELEASED, actor, release.replaces.policy, release.policy)
        changes = [(made, line), *self._retired(seen, actor, release.policy)]
        return self._move_policy(seen, renamed, policy, _about(actor, release.replaces, policy), changes)

    def roll_back_policy(
        self, actor: Actor, renamed: Mapping[str, str] | None = None, seen: Pointer | None = None
    ) -> Pointer:
        """Restore the policy before the one in force, in one write.

        Without `renamed`, the deciding bundles are exactly those that the release moved; else it maps every bundle that
        decides in `seen` to its namesake with the policy before. Raises NothingToRollBack, PromotionConflict.
        """
        seen = seen or self.pointer()
        release = self.released(seen)
        renamed = renamed or {after: before for before, after in release.renamed.items()}
        if missing := [sha[:12] for sha in seen.deciding if sha not in renamed]:
            raise NothingToRollBack(
                f"bundle {', '.join(missing)} was promoted after release {release.number}: use `candor policy rollback`"
            )
        policy = replace(release.replaces, at=actor.at, by=actor.by, rolled_back=True)
        changes = self._retired(seen, actor, policy.policy)
        if former := self.release(policy.number):
            line = _release_line(former, RELEASED, actor, release.policy, former.policy)
            changes.append((former.stepped(RELEASED), line))
        return self._move_policy(seen, renamed, policy, _about(actor, release, policy), changes)

    def released(self, seen: Pointer) -> PolicyRelease:
        """The release in force. Raises NothingToRollBack if none is."""
        release = self.release(seen.policy.number) if seen.policy and seen.policy.number else None
        if release is None:
            raise NothingToRollBack("no policy release is in force: the table is that of the champion's run")
        return release

    def _retired(self, seen: Pointer, actor: Actor, policy: str) -> list[Change]:
        """The release in force as retired, if there is one, for the table `policy`."""
        release = self.release(seen.policy.number) if seen.policy and seen.policy.number else None
        if release is None:
            return []
        return [(release.stepped(RETIRED), _release_line(release, RETIRED, actor, release.policy, policy))]

    def _move_policy(
        self,
        seen: Pointer,
        renamed: Mapping[str, str],
        policy: PolicyInForce,
        actor: Actor,
        changes: Sequence[Change],
    ) -> Pointer:
        former = {renamed[sha]: self.registration(sha) for sha in seen.deciding}
        succeeded = {sha: known.succeeded for sha, known in former.items() if known and known.succeeded}
        moved = seen.released(renamed, policy)
        return self._move(seen, moved, actor, succeeded, changes)

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
        self,
        seen: Pointer,
        wanted: Pointer,
        actor: Actor | None = None,
        succeeded: Mapping[str, str | None] = MappingProxyType({}),
        changes: Sequence[Change] = (),
    ) -> Pointer:
        """Write the pointer as the successor of `seen`, with the states of all bundles named by either.

        `succeeded` holds the previous champions to note with bundles, `changes` is written in the same transaction.
        """
        moved = replace(wanted, moves=seen.moves + 1)
        states = self._changes(seen, moved, actor, succeeded) if actor else []
        self._table.write([*states, *changes], moved)
        return moved

    def _changes(
        self, seen: Pointer, moved: Pointer, actor: Actor, succeeded: Mapping[str, str | None]
    ) -> list[Change]:
        changes: list[Change] = []
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
            if sha in succeeded:
                made = replace(made, succeeded=succeeded[sha])
            changes.append((made, line))
        return changes


def require_share(share: float) -> None:
    """BundleRefused unless the share is above 0 and below 1."""
    if not 0.0 < share < 1.0:
        raise BundleRefused("a challenger's share is above 0 and below 1: to serve everyone, promote it")


def require_policy(known: Registration, pointer: Pointer) -> None:
    """BundleRefused for a bundle with another policy than the released one: it would undo the release silently."""
    policy = pointer.policy
    if policy is not None and known.policy != policy.digest:
        raise BundleRefused(
            f"bundle {known.bundle[:12]} has another decision table than the released one ({policy.policy[:12]}): "
            "start another training run, which takes the released table"
        )


def _release_line(
    release: PolicyRelease, after: str | None, actor: Actor, policy_before: str, policy_after: str
) -> Transition:
    """Audit line of a policy release; `after` is None for a new proposal."""
    before = None if after is None else release.state
    why = _tables(policy_before, policy_after, actor.why)
    return Transition(release.name, before, after or PROPOSED, actor.at, actor.by, why, actor.identity)


def _about(actor: Actor, before: PolicyInForce | PolicyRelease, after: PolicyInForce) -> Actor:
    """The actor of the bundles' audit lines, with both tables in the reason."""
    return replace(actor, why=_tables(before.policy, after.policy, actor.why))


def _tables(before: str, after: str, why: str) -> str:
    """Reason of an audit line: the old and the new table, and the person's reason."""
    return f"table {before[:12]} -> {after[:12]}{f': {why}' if why else ''}"


def _shared(before: Pointer, after: Pointer, sha: str) -> bool:
    """True if the bundle challenges before and after, for another share."""
    both = (before.challenger, after.challenger)
    shares = {challenge.share for challenge in both if challenge and challenge.bundle == sha}
    return len(shares) == 2


def _with(views: Mapping[str, str], view: str, version: str | None) -> dict[str, str]:
    """Served versions once `view` serves `version`."""
    others = {name: serving for name, serving in views.items() if name != view}
    return others if version is None else {**others, view: version}
