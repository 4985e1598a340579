"""Policy releases: one conditional write for champion and challenger, nobody undoes another's, rollbacks are exact."""

from __future__ import annotations

from dataclasses import replace

import boto3
import pytest
from moto import mock_aws
from msgspec import structs

import lender
from candor.errors import BundleRefused
from candor.model.bundle import Bundle
from candor.model.policy_document import PolicyDocument
from candor.registry.artifacts import keep_bundle, read_bundle
from candor.registry.lifecycle import Actor, ApprovalRefused
from candor.registry.pointer import Challenge
from candor.registry.policy_releases import PolicyReleases
from candor.registry.registry import NothingToRollBack, Registry
from candor.registry.registry_table import PromotionConflict, Registration, RegistryItem
from candor.store.dynamodb import bound
from tests.decision_tables import limited
from tests.reasons.lending import bundle

ANA, BOB = Actor("ana", 100, "", "arn:ana"), Actor("bob", 200, "", "arn:bob")


@pytest.fixture
def releases(monkeypatch) -> PolicyReleases:
    """A stage where bundle 7 serves and bundle 8 is a candidate, both with the code's table."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        bound(RegistryItem, "registry").create_table(wait=True)
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="bundles")
        registry = Registry("registry")
        made = PolicyReleases(s3=s3, registry=registry, bundles="bundles", definitions=lender.DEFINITIONS)
        for seed in (7, 8):
            add(made, bundle(seed))
        registry.promote(bundle(7).sha, by="ana", at=1)
        yield made


def add(releases: PolicyReleases, made: Bundle) -> str:
    """Register a candidate, as the last step but one of a training run does."""
    keep_bundle(releases.s3, "bundles", made.sha, made.to_bytes())
    digest = PolicyDocument.in_bundle(made).digest
    releases.registry.register(Registration(made.sha, "candidate", {"auc": 0.7}, "run", 1, policy=digest))
    return made.sha


def document(most: int) -> PolicyDocument:
    return PolicyDocument.of(limited(most), lender.REASONS)


def released(releases: PolicyReleases, most: int, actor: Actor = ANA) -> PolicyDocument:
    proposal = releases.propose(document(most), actor)
    releases.approve(proposal, actor, second_person=False)
    return document(most)


def stored(releases: PolicyReleases, sha: str) -> Bundle:
    return Bundle.from_bytes(read_bundle(releases.s3, "bundles", sha), sha)


def test_a_release_changes_the_table_and_nothing_else_of_champion_and_challenger(releases):
    releases.registry.challenge(bundle(8).sha, 0.1, by="ana", at=2)
    before = releases.registry.pointer()
    made = released(releases, 50_000)
    pointer = releases.registry.pointer()
    assert pointer.moves == before.moves + 1, "one write moves both"
    for old, new in ((bundle(7), pointer.bundle), (bundle(8), pointer.challenger.bundle)):
        decides = stored(releases, new)
        assert decides == structs.replace(old, policy=dict(made.policy))
        assert decides.model == old.model
        assert new != old.sha
    assert (pointer.promoted_at, pointer.by) == (1, "ana")
    assert (pointer.policy.number, pointer.policy.policy) == (1, made.hash)
    states = {each.bundle: each.state for each in releases.registry.registrations()}
    assert states == {
        bundle(7).sha: "retired", bundle(8).sha: "candidate", pointer.bundle: "champion",
        pointer.challenger.bundle: "challenger",
    }  # fmt: skip


def test_the_customers_of_a_challenger_stay_with_it_over_releases_and_rollback(releases):
    first = releases.registry.challenge(bundle(8).sha, 0.1, by="ana", at=2).challenger
    for most in (50_000, 60_000):
        released(releases, most)
        assert releases.registry.pointer().challenger.assignment == bundle(8).sha
    for _ in range(2):
        releases.roll_back(BOB)
    assert releases.registry.pointer().challenger == first == Challenge(bundle(8).sha, 0.1, 2, "ana")


def test_the_audit_says_who_when_why_and_both_hashes(releases):
    proposal = releases.propose(document(50_000), replace(ANA, why="losses in July"))
    releases.approve(proposal, BOB, second_person=True)
    table = PolicyDocument.in_bundle(bundle(7)).hash[:12]
    proposed, approved = releases.registry.release_history(releases.registry.release(1))
    hashes = f"table {table} -> {document(50_000).hash[:12]}"
    assert (proposed.after, proposed.by, proposed.why) == ("proposed", "ana", f"{hashes}: losses in July")
    assert (approved.after, approved.by, approved.at, approved.identity) == (
        "released",
        "bob",
        200,
        "arn:bob",
    )
    assert approved.why == f"{hashes}: approved: ana proposed it (losses in July)"
    champion = releases.registry.pointer().bundle
    assert releases.registry.history(champion)[-1].why == approved.why


def test_a_second_person_is_somebody_else(releases):
    proposal = releases.propose(document(50_000), ANA)
    for same in (ANA, replace(BOB, by="ana"), replace(BOB, identity="arn:ana")):
        with pytest.raises(ApprovalRefused, match="somebody else"):
            releases.approve(proposal, same, second_person=True)
    assert releases.registry.pointer().bundle == bundle(7).sha


def test_of_two_proposals_side_by_side_the_second_does_not_undo_the_first(releases):
    first, second = (releases.propose(document(most), who) for most, who in ((50_000, ANA), (60_000, BOB)))
    releases.approve(first, ANA, second_person=False)
    with pytest.raises(PromotionConflict, match="propose again"):
        releases.approve(second, BOB, second_person=False)
    assert releases.registry.pointer().policy.number == 1
    with pytest.raises(ApprovalRefused, match="is released"):
        releases.approve(releases.registry.release(1), ANA, second_person=False)


def test_a_pointer_that_moves_between_reading_and_writing_is_a_conflict(releases, monkeypatch):
    proposal = releases.propose(document(50_000), ANA)
    stale = releases.registry.pointer()
    releases.registry.promote(bundle(8).sha, by="bob", at=3)
    moved = releases.registry.pointer()
    monkeypatch.setattr(releases.registry, "pointer", lambda: stale)
    with pytest.raises(PromotionConflict, match="moved meanwhile"):
        releases.approve(proposal, ANA, second_person=False)
    assert Registry("registry").pointer() == moved
    assert Registry("registry").release(1).state == "proposed"


def test_two_who_propose_at_once_get_two_numbers_or_a_conflict(releases, monkeypatch):
    releases.propose(document(50_000), ANA)
    monkeypatch.setattr(releases.registry, "releases", list)
    with pytest.raises(PromotionConflict):
        releases.propose(document(60_000), BOB)
    assert Registry("registry").release(1).digest == document(50_000).digest


def test_a_champion_promoted_after_the_proposal_is_released_with_its_own_model(releases):
    proposal = releases.propose(document(50_000), ANA)
    releases.registry.promote(bundle(8).sha, by="bob", at=3)
    pointer = releases.approve(proposal, ANA, second_person=False)
    assert stored(releases, pointer.bundle).model == bundle(8).model


def test_a_rollback_restores_the_bundles_of_before_and_each_takes_one_release_back(releases):
    released(releases, 50_000)
    first = releases.registry.pointer()
    released(releases, 60_000)
    assert releases.roll_back(BOB).bundle == first.bundle
    pointer = releases.roll_back(replace(BOB, why="too strict"))
    assert pointer.bundle == bundle(7).sha
    assert (pointer.policy.number, pointer.policy.rolled_back) == (0, True)
    line = releases.registry.release_history(releases.registry.release(1))[-1]
    assert (line.before, line.after, line.by) == ("released", "retired", "bob")
    assert line.why.endswith(f"-> {PolicyDocument.in_bundle(bundle(7)).hash[:12]}: too strict")
    with pytest.raises(NothingToRollBack):
        releases.roll_back(BOB)


def test_a_model_promoted_since_keeps_its_model_when_the_table_is_rolled_back(releases):
    made = released(releases, 50_000)
    later = add(releases, made.applied_to(bundle(8)))
    releases.registry.promote(later, by="ana", at=300)
    pointer = releases.roll_back(BOB)
    assert stored(releases, pointer.bundle).to_bytes() == bundle(8).to_bytes()


def test_a_bundle_with_another_table_than_the_released_one_may_not_serve(releases):
    made = released(releases, 50_000)
    for serve in (
        lambda: releases.registry.promote(bundle(8).sha, by="bob", at=3),
        lambda: releases.registry.challenge(bundle(8).sha, 0.1, by="bob", at=3),
    ):
        with pytest.raises(BundleRefused, match="another decision table than the released one"):
            serve()
    later = add(releases, made.applied_to(bundle(8)))
    assert releases.registry.promote(later, by="bob", at=3).bundle == later
    releases.roll_back(ANA)
    with pytest.raises(BundleRefused, match="another decision table"):
        releases.registry.promote(later, by="bob", at=4)


def test_a_rollback_of_the_model_keeps_the_released_table(releases):
    releases.registry.promote(bundle(8).sha, by="ana", at=2)
    made = released(releases, 50_000)
    before = releases.registry.previous()
    assert before == bundle(7).sha
    with pytest.raises(BundleRefused, match="another decision table"):
        releases.registry.restore(by="bob", at=3)
    pointer = releases.registry.restore(releases.conforming(before, BOB), by="bob", at=3)
    assert stored(releases, pointer.bundle) == made.applied_to(bundle(7))
    with pytest.raises(NothingToRollBack):
        releases.registry.previous()


def test_an_older_pointer_and_registration_are_read_as_they_are(releases):
    item = boto3.client("dynamodb").get_item(TableName="registry", Key={"pk": {"S": "champion"}})["Item"]
    assert "policy" not in item
    assert releases.registry.pointer().policy is None


def test_what_decides_already_is_no_release_and_without_a_champion_there_is_none(releases):
    with pytest.raises(BundleRefused, match="decides already"):
        releases.propose(PolicyDocument.in_bundle(bundle(7)), ANA)
    empty = replace(releases, registry=Registry("registry"))
    boto3.client("dynamodb").delete_item(TableName="registry", Key={"pk": {"S": "champion"}})
    with pytest.raises(BundleRefused, match="no champion"):
        empty.propose(document(50_000), ANA)


def test_a_table_that_the_champion_cannot_carry_is_refused(releases):
    broken = limited(50_000)
    broken["nodes"][1]["content"]["rules"][0]["reason"] = '"H99"'
    with pytest.raises(BundleRefused, match="H99"):
        releases.propose(PolicyDocument.of(broken, lender.REASONS), ANA)
    assert releases.registry.releases() == []


def test_new_reasons_of_hard_rules_stand_behind_those_of_the_model():
    rewritten = [structs.replace(reason, text="Another text") for reason in lender.REASONS[-1:]]
    made = PolicyDocument.of(lender.policy(), [*lender.REASONS[:-1], *rewritten])
    changed = made.applied_to(bundle(7))
    assert changed.reasons[-1].text == "Another text"
    assert changed.reasons[:-1] == bundle(7).reasons[:-1]
    assert PolicyDocument.in_bundle(bundle(7)).applied_to(changed).to_bytes() == bundle(7).to_bytes()
    assert PolicyDocument.from_bytes(made.to_bytes(), made.digest) == made
