"""Lifecycle: only allowed transitions, each recorded in the audit, atomically with the pointer."""

from __future__ import annotations

from itertools import pairwise

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from candor.errors import BundleRefused, CandorError
from candor.registry.lifecycle import ALLOWED, Actor, ApprovalRefused, Proposal, state_in
from candor.registry.pointer import Pointer
from candor.registry.registry import NothingToRollBack, Registry
from candor.registry.registry_table import PromotionConflict, Registration

A, B, C = "a" * 64, "b" * 64, "c" * 64


def made(sha: str, state: str = "candidate", **rest) -> Registration:
    return Registration(sha, state, {"auc": 0.7}, "run", 1, **rest)


def fresh() -> Registry:
    client = boto3.client("dynamodb")
    if "registry" in client.list_tables()["TableNames"]:
        client.delete_table(TableName="registry")
    client.create_table(
        TableName="registry",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    registry = Registry("registry")
    for sha in (A, B, C):
        registry.register(made(sha))
    return registry


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield fresh()


def states(registry: Registry) -> dict[str, str]:
    return {registration.bundle[0]: registration.state for registration in registry.registrations()}


def steps(registry: Registry, sha: str) -> list[tuple[str | None, str]]:
    return [(line.before, line.after) for line in registry.history(sha)]


def test_from_candidate_to_champion_and_retired_every_step_is_told(registry):
    registry.promote(A, by="ana", at=2)
    registry.shadow([B], by="bob", at=3)
    registry.challenge(B, 0.1, by="bob", at=4)
    registry.challenge(B, 0.5, by="bob", at=5)
    registry.promote(B, by="ana", at=6, why="better on July")
    assert states(registry) == {"a": "retired", "b": "champion", "c": "candidate"}
    assert steps(registry, B) == [
        (None, "candidate"),
        ("candidate", "shadow"),
        ("shadow", "challenger"),
        ("challenger", "challenger"),
        ("challenger", "champion"),
    ]
    last = registry.history(B)[-1]
    assert (last.by, last.at, last.why) == ("ana", 6, "better on July")
    assert registry.history(B)[3].why == "decides for 50.0% of the customers"
    assert steps(registry, A) == [(None, "candidate"), ("candidate", "champion"), ("champion", "retired")]
    assert registry.history(A)[-1].why == "better on July"
    assert registry.history("d" * 64) == []


def test_who_leaves_becomes_what_it_was(registry):
    registry.shadow([A], by="ana", at=1)
    registry.shadow([], by="ana", at=2)
    registry.challenge(B, 0.1, by="ana", at=3)
    registry.challenge(C, 0.1, by="ana", at=4)
    assert states(registry) == {"a": "candidate", "b": "candidate", "c": "challenger"}
    registry.end_challenge(by="ana", at=5)
    assert states(registry)["c"] == "candidate"


def test_a_rollback_points_at_the_champion_before_and_again_at_the_one_before_that(registry):
    for at, sha in enumerate((A, B, C), 1):
        registry.promote(sha, by="ana", at=at)
    assert registry.restore(by="bob", at=9, why="too many declines").bundle == B
    assert states(registry) == {"a": "retired", "b": "champion", "c": "retired"}
    assert registry.history(C)[-1].why == "too many declines"
    assert registry.restore(by="bob", at=10).bundle == A
    with pytest.raises(NothingToRollBack, match="promote another bundle"):
        registry.restore(by="bob", at=11)
    assert registry.pointer().bundle == A


def test_before_the_first_promotion_there_is_nothing_to_roll_back(registry):
    with pytest.raises(NothingToRollBack):
        registry.restore(by="bob", at=1)


def test_a_rollback_is_one_write(registry, monkeypatch):
    registry.promote(A, by="ana", at=1)
    registry.promote(B, by="ana", at=2)
    moves = registry.pointer().moves
    assert registry.restore(by="bob", at=3).moves == moves + 1


def test_a_refused_bundle_does_nothing_and_says_why(registry):
    refused = made("d" * 64, "refused", gates=[("stability", "the score's PSI is 0.31")])
    registry.register(refused)
    for act in (
        lambda: registry.promote(refused.bundle, by="ana", at=1),
        lambda: registry.challenge(refused.bundle, 0.1, by="ana", at=1),
        lambda: registry.shadow([refused.bundle], by="ana", at=1),
        lambda: registry.propose(refused.bundle, Proposal("champion", "ana", 1)),
    ):
        with pytest.raises(BundleRefused, match=r"is refused: it cannot serve \(stability: the score's PSI"):
            act()
    assert steps(registry, refused.bundle) == [(None, "refused")]
    assert registry.history(refused.bundle)[0].why == "stability: the score's PSI is 0.31"


def test_a_new_verdict_counts_until_the_bundle_does_something(registry):
    registry.register(made(A, "refused", gates=[("parity", "3 rows")]))
    assert states(registry)["a"] == "refused"
    registry.register(made(A))
    assert list(registry.registration(A).gates) == []
    registry.promote(A, by="ana", at=1)
    registry.register(made(A, "refused", gates=[("parity", "3 rows")]))
    assert (registry.pointer().bundle, states(registry)["a"]) == (A, "champion")
    assert steps(registry, A) == [
        (None, "candidate"), ("candidate", "refused"), ("refused", "candidate"), ("candidate", "champion"),
    ]  # fmt: skip


# Two persons


def test_what_one_proposes_another_approves(registry):
    registry.propose(B, Proposal("champion", "ana", 1, "better", "arn:ana"))
    assert registry.pointer().bundle is None
    assert registry.approve(B, Actor("bob", 2, identity="arn:bob")).bundle == B
    known = registry.registration(B)
    assert (known.state, known.proposal) == ("champion", None)
    audit = [(line.by, line.why, line.identity) for line in registry.history(B)[1:]]
    assert audit == [
        ("ana", "proposed as champion: better", "arn:ana"),
        ("bob", "approved: ana proposed it (better)", "arn:bob"),
    ]


@pytest.mark.parametrize(("by", "identity"), [("ana", "arn:bob"), ("bob", "arn:ana"), ("ana", "arn:ana")])
def test_nobody_approves_what_they_proposed_under_any_name(registry, by, identity):
    registry.propose(B, Proposal("champion", "ana", 1, identity="arn:ana"))
    with pytest.raises(ApprovalRefused, match="somebody else must approve"):
        registry.approve(B, Actor(by, 2, identity=identity))
    assert registry.pointer().bundle is None


def test_a_challenge_is_approved_with_the_share_that_was_proposed(registry):
    registry.promote(A, by="ana", at=1)
    registry.propose(B, Proposal("challenger", "ana", 2, share=0.2))
    assert registry.approve(B, Actor("bob", 3)).challenger.share == 0.2
    with pytest.raises(ApprovalRefused, match="nothing is proposed"):
        registry.approve(B, Actor("bob", 4))
    with pytest.raises(BundleRefused, match="share"):
        registry.propose(B, Proposal("challenger", "ana", 5, share=1.0))


# All or nothing


def test_two_who_move_at_once_leave_no_half_of_a_move(registry, monkeypatch):
    registry.promote(A, by="ana", at=1)
    stale = registry.pointer()
    registry.promote(B, by="bob", at=2)
    other = Registry("registry")
    monkeypatch.setattr(other, "pointer", lambda: stale)
    with pytest.raises(PromotionConflict):
        other.promote(C, by="ana", at=3)
    assert states(registry) == {"a": "retired", "b": "champion", "c": "candidate"}
    assert steps(registry, C) == [(None, "candidate")]


def test_a_bundle_that_moved_meanwhile_is_not_overwritten(registry, monkeypatch):
    other = Registry("registry")
    known = {sha: registry.registration(sha) for sha in (A, B, C)}
    registry.propose(B, Proposal("champion", "ana", 1))
    monkeypatch.setattr(other, "registration", known.__getitem__)
    with pytest.raises(PromotionConflict):
        other.promote(B, by="bob", at=2)
    assert registry.pointer().bundle is None
    assert registry.registration(B).proposal.by == "ana"


def test_a_line_of_the_audit_is_written_once(registry):
    item = boto3.client("dynamodb").get_item(
        TableName="registry", Key={"pk": {"S": f"transition#{A}#000001"}}
    )["Item"]
    assert (item["state"]["S"], item["by"]["S"]) == ("candidate", "gates")
    known = registry.registration(A)
    boto3.client("dynamodb").update_item(
        TableName="registry",
        Key={"pk": {"S": f"bundle#{A}"}},
        UpdateExpression="REMOVE steps",
    )
    with pytest.raises(PromotionConflict):
        registry.promote(A, by="ana", at=1)
    assert len(registry.history(A)) == 0
    assert known.steps == 1


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("promote"), st.sampled_from([A, B, C])),
        st.tuples(st.just("challenge"), st.sampled_from([A, B, C])),
        st.tuples(st.just("shadow"), st.lists(st.sampled_from([A, B, C]), max_size=2)),
        st.tuples(st.just("end"), st.none()),
        st.tuples(st.just("restore"), st.none()),
        st.tuples(st.just("refuse"), st.sampled_from([A, B, C])),
    ),
    max_size=8,
)


def act(registry: Registry, kind: str, what, at: int) -> None:
    match kind:
        case "promote":
            registry.promote(what, by="ana", at=at)
        case "challenge":
            registry.challenge(what, 0.1, by="ana", at=at)
        case "shadow":
            registry.shadow(what, by="ana", at=at)
        case "end":
            registry.end_challenge(by="ana", at=at)
        case "restore":
            registry.restore(by="ana", at=at)
        case "refuse":
            registry.register(made(what, "refused"))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(acts=ACTS)
def test_whatever_is_done_states_follow_the_pointer_and_the_audit_is_whole(registry, acts):
    del registry  # its account; every example has a table of its own
    own_registry = fresh()
    for at, (kind, what) in enumerate(acts, 10):
        try:
            act(own_registry, kind, what, at)
        except CandorError:
            continue
    pointer = own_registry.pointer()
    for registration in own_registry.registrations():
        assert registration.state == state_in(pointer, registration.bundle, registration.resting)
        lines = own_registry.history(registration.bundle)
        assert len(lines) == registration.steps
        assert lines[-1].after == registration.state
        assert all(before.after == after.before for before, after in pairwise(lines))
        assert all(line.after in ALLOWED[line.before] or line.after == line.before for line in lines)


def test_no_state_but_refused_is_beyond_return():
    assert ALLOWED["refused"] == {"candidate"}
    assert set(ALLOWED) - {None} == {"refused", "candidate", "shadow", "challenger", "champion", "retired"}
    assert state_in(Pointer(bundle=A, shadows=[A]), A, "candidate") == "champion"
