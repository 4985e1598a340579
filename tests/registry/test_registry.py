"""The pointer item: a bundle and views' versions, moved with optimistic locking."""

from __future__ import annotations

import boto3
import msgspec
import pytest
from moto import mock_aws

from candor.errors import BundleRefused
from candor.registry.lifecycle import Actor, Proposal
from candor.registry.pointer import Challenge, Pointer, PolicyInForce, VersionSwitch
from candor.registry.registry import SWITCHES_KEPT, Backfill, NothingToRollBack, Registry
from candor.registry.registry_table import PromotionConflict, Registration, RegistryItem
from candor.store.dynamodb import bound
from candor.store.protocol import Challenger
from candor.store.scorer import _pointed, _StoredItem


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        bound(RegistryItem, "registry").create_table(wait=True)
        registry = Registry("registry")
        registry.register(Registration("a", "candidate", {}, "run", 1))
        yield registry


def test_before_the_first_move_nothing_serves(registry):
    assert registry.pointer() == Pointer()


def test_a_flip_keeps_the_bundle_and_a_promotion_keeps_the_flip(registry):
    registry.switch_version("loans", "v2", by="ana", at=1)
    registry.promote("a", by="bob", at=2)
    registry.switch_version("tries", "w2", by="ana", at=3)
    pointer = registry.pointer()
    assert (pointer.bundle, pointer.by) == ("a", "bob")
    assert pointer.views == {"loans": "v2", "tries": "w2"}
    assert list(pointer.switches) == [
        VersionSwitch("loans", None, "v2", 1, "ana"),
        VersionSwitch("tries", None, "w2", 3, "ana"),
    ]


def test_each_rollback_takes_one_flip_of_its_view_back(registry):
    for at, version in enumerate(("v2", "v3"), 1):
        registry.switch_version("loans", version, by="ana", at=at)
    registry.switch_version("tries", "w2", by="ana", at=3)
    assert registry.roll_back("loans").views == {"loans": "v2", "tries": "w2"}
    assert registry.roll_back("loans").views == {"tries": "w2"}
    with pytest.raises(NothingToRollBack, match="loans"):
        registry.roll_back("loans")


def test_a_flip_to_what_serves_changes_nothing(registry):
    registry.switch_version("loans", "v2", by="ana", at=1)
    assert registry.switch_version("loans", "v2", by="bob", at=2).switches == registry.pointer().switches
    assert registry.pointer().moves == 1


def test_only_so_many_flips_are_kept(registry):
    for at in range(SWITCHES_KEPT + 3):
        registry.switch_version("loans", f"v{at}", by="ana", at=at)
    assert [flip.at for flip in registry.pointer().switches] == list(range(3, SWITCHES_KEPT + 3))


def test_two_who_flip_at_once_do_not_overwrite_each_other(registry, monkeypatch):
    registry.switch_version("loans", "v2", by="ana", at=1)
    stale = registry.pointer()
    registry.switch_version("tries", "w2", by="bob", at=2)
    monkeypatch.setattr(registry, "pointer", lambda: stale)
    with pytest.raises(PromotionConflict):
        registry.switch_version("loans", None, by="ana", at=3)
    assert Registry("registry").pointer().views == {"loans": "v2", "tries": "w2"}


def test_a_pointer_written_before_moves_were_counted_can_be_moved(registry):
    item = {"pk": {"S": "champion"}, "bundle": {"S": "a"}, "promoted_at": {"N": "1"}, "by": {"S": "ana"}}
    boto3.client("dynamodb").put_item(TableName="registry", Item=item)
    assert registry.switch_version("loans", "v2", by="bob", at=2).bundle == "a"


def test_a_backfill_goes_on_as_of_its_beginning(registry):
    assert registry.backfill("loans@v2") is None
    assert registry.begin_backfill("loans@v2", 5) == Backfill("loans@v2", 5, done=False)
    assert registry.begin_backfill("loans@v2", 9).started_at == 5
    registry.finish_backfill("loans@v2")
    assert registry.backfill("loans@v2") == Backfill("loans@v2", 5, done=True)


def test_a_challenger_decides_beside_the_champion_until_it_ends_or_is_promoted(registry):
    registry.register(Registration("b", "candidate", {}, "run", 1))
    registry.promote("a", by="ana", at=1)
    pointer = registry.challenge("b", 0.1, by="bob", at=2)
    assert (pointer.bundle, pointer.challenger) == ("a", Challenge("b", 0.1, 2, "bob"))
    assert registry.pointer() == pointer
    assert registry.end_challenge().challenger is None
    registry.challenge("b", 0.5, by="bob", at=3)
    promoted = registry.promote("b", by="ana", at=4)
    assert (promoted.bundle, promoted.challenger) == ("b", None)


@pytest.mark.parametrize(
    ("sha", "share", "why"),
    [("b", 0.1, "unknown"), ("a", 0.1, "is the champion"), ("c", 0.0, "share"), ("c", 1.0, "share")],
)
def test_what_cannot_challenge_is_told(registry, sha, share, why):
    registry.register(Registration("c", "candidate", {}, "run", 1))
    registry.promote("a", by="ana", at=1)
    with pytest.raises(BundleRefused, match=why):
        registry.challenge(sha, share, by="bob", at=2)
    assert registry.pointer().moves == 1


def test_shadows_are_exactly_those_that_were_named(registry):
    registry.register(Registration("b", "candidate", {}, "run", 1))
    assert list(registry.shadow(["b", "a", "b"]).shadows) == ["b", "a"]
    assert registry.shadow(["b", "a"]).moves == 1
    assert list(registry.promote("a", by="ana", at=1).shadows) == ["b", "a"]
    assert list(registry.shadow([]).shadows) == list(registry.pointer().shadows) == []
    with pytest.raises(BundleRefused, match="unknown"):
        registry.shadow(["d"])


def test_the_scorer_reads_the_challenger_that_the_registry_wrote(registry):
    registry.register(Registration("b", "candidate", {}, "run", 1))
    registry.promote("a", by="ana", at=1)
    registry.challenge("b", 0.25, by="bob", at=2)
    item = boto3.client("dynamodb").get_item(TableName="registry", Key={"pk": {"S": "champion"}})["Item"]
    assert _pointed(msgspec.convert(item, _StoredItem)) == ("a", {}, Challenger("b", 0.25))


def test_the_scorer_reads_the_name_that_a_released_challengers_customers_are_assigned_by(registry):
    for sha in ("b", "c", "d"):
        registry.register(Registration(sha, "candidate", {}, "run", 1))
    registry.promote("a", by="ana", at=1)
    registry.challenge("b", 0.25, by="bob", at=2)
    replaces, proposal = PolicyInForce(0, "d0", "t0", 0, ""), Proposal("policy", "ana", 3)
    release = registry.propose_policy("d1", "t1", replaces, proposal)
    registry.release_policy(release, {"a": "c", "b": "d"}, registry.pointer(), Actor("ana", 3))
    item = boto3.client("dynamodb").get_item(TableName="registry", Key={"pk": {"S": "champion"}})["Item"]
    assert _pointed(msgspec.convert(item, _StoredItem)) == ("c", {}, Challenger("d", 0.25, "b"))
    registry.roll_back_policy(Actor("bob", 4))
    item = boto3.client("dynamodb").get_item(TableName="registry", Key={"pk": {"S": "champion"}})["Item"]
    assert "assignment" not in item["challenger"]["S"]
