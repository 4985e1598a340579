"""Champion and challenger: stable assignment, correct shares, and the propensity in every record."""

from __future__ import annotations

import pytest

import lender
from candor.clock import FixedClock
from candor.decide import assignment
from candor.errors import StoreUnavailable
from candor.model.policy_document import PolicyDocument
from candor.store.protocol import Challenger
from tests.decide.lending import NOW, SAFE, Shelf, Till, champion
from tests.decision_tables import limited

SHARE = 0.2


@pytest.fixture
def till() -> Till:
    shop = Till(shelf=Shelf(champion(), champion(8)))
    shop.store.views = {}
    shop.store.challenger = Challenger(champion(8).sha, SHARE)
    return shop


def sides(till: Till, customers: int = 300, prefix: str = "k") -> dict[str, dict]:
    return {f"cus_{n}": till.record(f"{prefix}{n}", total=SAFE, token=f"cus_{n}") for n in range(customers)}


def test_each_side_gets_its_share_and_the_record_says_how_probable_it_was(till):
    records = sides(till)
    challenged = [record for record in records.values() if record["bundle"] == champion(8).sha]
    assert {record["propensity"] for record in challenged} == {SHARE}
    others = [record for record in records.values() if record not in challenged]
    assert {(record["bundle"], record["propensity"]) for record in others} == {(champion().sha, 1.0 - SHARE)}
    assert 35 <= len(challenged) <= 85  # 60 expected, 3.6 standard deviations


def test_a_customer_stays_on_one_side_in_every_scorer(till):
    first = sides(till, 40)
    other = Till(till.store, Shelf(champion(), champion(8)), FixedClock(NOW))
    again = sides(other, 40, "again")
    assert {name: record["bundle"] for name, record in first.items()} == {
        name: record["bundle"] for name, record in again.items()
    }


def test_customers_stay_with_a_challenger_that_a_policy_release_renamed(till):
    first = sides(till, 60)
    released = PolicyDocument.of(limited(150_000), lender.REASONS)
    before, after = champion(8), released.applied_to(champion(8))
    other = Till(till.store, Shelf(champion(), after), FixedClock(NOW))
    other.store.challenger = Challenger(after.sha, SHARE, before.sha)
    again = sides(other, 60, "again")
    assert {record["bundle"] for record in again.values()} == {champion().sha, after.sha}
    assert [record["bundle"] == before.sha for record in first.values()] == [
        record["bundle"] == after.sha for record in again.values()
    ]


def test_another_challenger_or_key_draws_anew():
    tokens = [f"cus_{n}" for n in range(200)]

    def side(key: bytes, sha: str) -> list[bool]:
        return [assignment(key, token)(sha) < 0.5 for token in tokens]

    assert side(b"a", "x") == side(b"a", "x")
    for other in (side(b"a", "y"), side(b"b", "x")):
        same = sum(first == second for first, second in zip(side(b"a", "x"), other, strict=True))
        assert 65 <= same <= 135  # 100 expected, 5 standard deviations


def test_lots_are_spread_evenly_from_zero_to_below_one():
    buckets = sorted(assignment(b"key", f"cus_{n}")("sha") for n in range(2_000))
    assert buckets[0] >= 0.0
    assert buckets[-1] < 1.0
    assert (
        max(abs(bucket - n / 2_000) for n, bucket in enumerate(buckets)) < 0.045
    )  # Kolmogorov-Smirnov, p = 0.0006


def test_a_challenger_that_cannot_serve_has_no_share(till):
    till.shelf.files[champion(8).sha] = b"[]"
    records = sides(till, 30)
    assert {(record["bundle"], record["propensity"]) for record in records.values()} == {
        (champion().sha, 1.0)
    }
    assert till.shelf.taken.count(champion(8).sha) == 1


def test_a_challenger_that_is_away_decides_once_it_is_back(till):
    till.shelf.files[champion(8).sha] = StoreUnavailable("s3 is away")
    assert {record["propensity"] for record in sides(till, 10, "a").values()} == {1.0}
    till.shelf.files[champion(8).sha] = champion(8).to_bytes()
    till.clock.advance(5_000)
    assert {record["propensity"] for record in sides(till, 40, "b").values()} == {SHARE, 1.0 - SHARE}


def test_the_end_of_a_challenge_is_one_write(till):
    sides(till, 10, "a")
    till.store.challenger = None
    assert {record["propensity"] for record in sides(till, 40, "b").values()} == {1.0}


def test_a_pointer_that_cannot_be_read_changes_no_side(till):
    first = sides(till, 40, "a")
    till.store.champion, till.store.views, till.store.challenger = None, None, None
    again = sides(till, 40, "b")
    assert [(record["bundle"], record["propensity"]) for record in first.values()] == [
        (record["bundle"], record["propensity"]) for record in again.values()
    ]


def test_a_champion_that_is_its_own_challenger_decides_for_all(till):
    till.store.challenger = Challenger(champion().sha, SHARE)
    assert {record["propensity"] for record in sides(till, 10).values()} == {1.0}


def test_both_sides_are_loaded_once_and_at_the_start(till):
    till.decider.warm_up()
    sides(till, 40)
    assert till.shelf.taken == [champion().sha, champion(8).sha]


def test_a_retry_is_answered_as_before_though_the_challenge_ended(till):
    before = {n: till.decide(f"k{n}", token=f"cus_{n}").body for n in range(20)}
    till.store.challenger = None
    assert {n: till.decide(f"k{n}", token=f"cus_{n}").body for n in range(20)} == before
