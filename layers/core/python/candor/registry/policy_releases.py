"""Policy releases: a new decision table for every bundle that decides, without a retraining (ADR 0034).

A release changes nothing but the table and the reasons of hard rules: the model, its calibration, cut-off and features
are the serving bundle's own, and the result is a bundle again, named by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from candor.errors import BundleRefused
from candor.features.definitions import Definitions
from candor.model.bundle import Bundle
from candor.model.policy_document import PolicyDocument
from candor.model.soundness import require_sound
from candor.registry.artifacts import keep_bundle, keep_policy, read_bundle, read_policy
from candor.registry.lifecycle import CANDIDATE, PROPOSED, Actor, ApprovalRefused, Proposal
from candor.registry.pointer import Pointer, PolicyInForce
from candor.registry.registry import Registry
from candor.registry.registry_table import PolicyRelease, PromotionConflict, Registration
from candor.registry.runs import copy_evaluation

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

POLICY: Final = "policy"
"""Target of a proposal that releases a policy."""


@dataclass(frozen=True, kw_only=True)
class PolicyReleases:
    """Proposes, releases and rolls back policies; `bundles` is a bucket. Raises StoreUnavailable if AWS fails."""

    s3: S3Client
    registry: Registry
    bundles: str
    definitions: Definitions

    def serving(self) -> Bundle:
        """The champion. Raises BundleRefused if there is none."""
        sha = self.registry.pointer().bundle
        if sha is None:
            raise BundleRefused("no champion serves yet: train and promote a model first")
        return self._bundle(sha)

    def in_force(self) -> PolicyDocument | None:
        """The released policy, or None before the first release."""
        policy = self.registry.pointer().policy
        return read_policy(self.s3, self.bundles, policy.digest) if policy else None

    def propose(self, document: PolicyDocument, proposer: Actor) -> PolicyRelease:
        """Store the champion's bundle with this policy, and record the proposal; nothing decides otherwise yet.

        Raises BundleRefused without a champion, for a policy that it cannot carry and for the one that decides already,
        PromotionConflict if another person proposed at the same moment.
        """
        pointer, champion = self.registry.pointer(), self.serving()
        current = PolicyDocument.in_bundle(champion)
        if document.digest == current.digest:
            raise BundleRefused(f"table {document.hash[:12]} decides already: there is nothing to release")
        for each in (current, document):
            keep_policy(self.s3, self.bundles, each)
        self._made(champion.sha, document, proposer)
        replaces = pointer.policy or PolicyInForce(0, current.digest, current.hash, 0, "")
        proposal = Proposal(POLICY, proposer.by, proposer.at, proposer.why, proposer.identity)
        return self.registry.propose_policy(document.digest, document.hash, replaces, proposal)

    def open_proposal(self, number: int | None = None) -> PolicyRelease:
        """A proposal by its number, or the only open one. Raises ApprovalRefused."""
        if number is not None:
            release = self.registry.release(number)
            if release is None:
                raise ApprovalRefused(f"there is no release {number}: `candor policy history` lists them")
            return release
        proposals = [release for release in self.registry.releases() if release.state == PROPOSED]
        if len(proposals) != 1:
            numbers = ", ".join(str(release.number) for release in proposals)
            why = f"{len(proposals)} are open ({numbers}): name one" if proposals else "propose a table first"
            raise ApprovalRefused(f"there is no single open proposal: {why}")
        return proposals[0]

    def approve(self, release: PolicyRelease, actor: Actor, *, second_person: bool) -> Pointer:
        """Put a proposal in force, for champion and challenger in one write.

        Raises ApprovalRefused if `second_person` is required and the approver is the proposer, PromotionConflict if
        another table decides than the one that the proposal replaces, or if the pointer moves meanwhile.
        """
        proposal = release.proposal
        if second_person and proposal is not None:
            actor = proposal.approved_by(actor)
        elif proposal is not None and proposal.why and not actor.why:
            actor = replace(actor, why=proposal.why)
        seen = self.registry.pointer()
        current = PolicyDocument.in_bundle(self.serving())
        if release.state == PROPOSED and current.digest != release.replaces.digest:
            raise PromotionConflict(
                f"the table {current.hash[:12]} decides now, and release {release.number} was proposed against "
                f"{release.replaces.policy[:12]}: look at it, and propose again"
            )
        document = read_policy(self.s3, self.bundles, release.digest)
        renamed = self._renamed(seen, document, actor)
        return self.registry.release_policy(release, renamed, seen, actor)

    def roll_back(self, actor: Actor) -> Pointer:
        """Restore the policy before the one in force, in one write, without gates or approval.

        The bundles of before the release decide again, byte for byte; a model that was promoted since gets the policy
        before. Raises NothingToRollBack, PromotionConflict.
        """
        seen = self.registry.pointer()
        release = self.registry.released(seen)
        former = {after: before for before, after in release.renamed.items()}
        renamed = {sha: former[sha] for sha in seen.deciding if sha in former}
        if len(renamed) < len(seen.deciding):
            before = read_policy(self.s3, self.bundles, release.replaces.digest)
            renamed = {**self._renamed(seen, before, actor), **renamed}
        return self.registry.roll_back_policy(actor, renamed, seen)

    def conforming(self, sha: str, actor: Actor) -> str:
        """The bundle itself, or its model with the released policy as another bundle, stored and registered."""
        policy = self.registry.pointer().policy
        known = self.registry.registration(sha)
        if policy is None or (known is not None and known.policy == policy.digest):
            return sha
        return self._made(sha, read_policy(self.s3, self.bundles, policy.digest), actor)

    def _renamed(self, pointer: Pointer, document: PolicyDocument, actor: Actor) -> Mapping[str, str]:
        return {sha: self._made(sha, document, actor) for sha in pointer.deciding}

    def _made(self, sha: str, document: PolicyDocument, actor: Actor) -> str:
        """Store and register a bundle with another policy, with the evaluation of its model; returns its name."""
        base = self._bundle(sha)
        made = document.applied_to(base)
        require_sound(made, base.trained_on(self.definitions))
        keep_bundle(self.s3, self.bundles, made.sha, made.to_bytes())
        copy_evaluation(self.s3, self.bundles, sha, made.sha)
        known = self.registry.registration(sha)
        registration = Registration(
            made.sha,
            CANDIDATE,
            known.metrics if known else {},
            known.run if known else "",
            actor.at,
            policy=document.digest,
        )
        why = f"the model of bundle {sha[:12]} with table {document.hash[:12]}"
        self.registry.register(registration, actor.by, why)
        return made.sha

    def _bundle(self, sha: str) -> Bundle:
        return Bundle.from_bytes(read_bundle(self.s3, self.bundles, sha), sha)
