"""Serving bundle: the one the pointer names, else the previous one, else the fallback policy alone."""

from __future__ import annotations

import math

import pytest
from msgspec import structs

from candor.champion import KEPT, RETRY_AFTER
from candor.clock import Deadline, FixedClock
from candor.decide import START_TIMEOUT_S
from candor.errors import BundleRefused, EngineUnavailable, PolicyError, StoreUnavailable
from candor.model.bundle import Bundle, sha256
from candor.policy import Policy
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from tests.decide.lending import NOW, POLICY, REASONS, RISKY, SAFE, Shelf, Till, attempt, champion, decider


def other(**changes) -> Bundle:
    return structs.replace(champion(), **changes)


def cell(column: str, text: str) -> dict:
    """The policy with one cell of its first row changed."""
    graph = dict(champion().policy)
    nodes = [dict(node) for node in graph["nodes"]]
    content = nodes[1]["content"]
    first, *rest = content["rules"]
    nodes[1]["content"] = {**content, "rules": [{**first, column: text}, *rest]}
    return graph | {"nodes": nodes}


def _cut(bundle: Bundle) -> str:
    return bundle.model[: len(bundle.model) // 2]


REFUSED = {
    "not a bundle": lambda: b"[]",
    "not JSON": lambda: b"\x80",
    "other definitions": lambda: other(definition_hash="0" * 64).to_bytes(),
    "other features": lambda: other(
        features=("a", *champion().features[1:]),
        model=champion().model.replace(champion().features[0], "a", 1),
    ).to_bytes(),
    "a model cut short": lambda: other(model=_cut(champion())).to_bytes(),
    "a model of another objective": lambda: other(
        model=champion().model.replace("num_class=1\n", "num_class=3\n")
    ).to_bytes(),
    "a factor without a reason": lambda: other(reasons=REASONS[:-1]).to_bytes(),
    "a policy that is no table": lambda: other(policy={"nodes": []}).to_bytes(),
    "a policy that does not compile": lambda: other(policy=cell("amount", ">")).to_bytes(),
}


@pytest.fixture(params=REFUSED.values(), ids=REFUSED)
def refused(request) -> bytes:
    file: bytes = request.param()
    return file


def put(till: Till, file: bytes) -> str:
    """The file on the shelf and named by the pointer."""
    name = sha256(file)
    till.shelf.files[name] = file
    till.store.champion = name
    return name


def test_a_refused_bundle_leaves_the_one_before_serving(till, refused):
    before = till.record("a", total=RISKY)
    put(till, refused)
    after = till.record("b", total=RISKY)
    assert after["bundle"] == before["bundle"] == champion().sha
    assert (after["score"], after["reasons"]) == (before["score"], before["reasons"])
    assert after["degraded"] is False


def test_a_refused_bundle_is_not_tried_again(till, refused):
    name = put(till, refused)
    for key in "abc":
        till.decide(key, total=SAFE)
    assert till.shelf.taken == [name]


def test_a_refused_first_bundle_leaves_the_fallback_policy(till, refused):
    put(till, refused)
    record = till.record(total=RISKY)
    assert (record["bundle"], record["score"], record["cutoff"]) == (None, None, None)
    assert (record["outcome"], record["rules"], record["degraded"]) == (
        "action_required",
        ["unverified"],
        True,
    )


def test_a_good_bundle_after_a_refused_one_serves(till, refused):
    put(till, refused)
    till.decide("a", total=SAFE)
    put(till, champion().to_bytes())
    assert till.record("b", total=SAFE)["bundle"] == champion().sha


def test_bytes_that_are_not_the_named_file_are_refused(till):
    till.shelf.files[champion().sha] = champion(8).to_bytes()
    assert till.record(total=SAFE)["bundle"] is None


def test_an_unreadable_bundle_leaves_the_one_before_and_is_tried_again(till):
    till.decide("a", total=SAFE)
    new = champion(8)
    till.shelf.files[new.sha] = StoreUnavailable("s3 is away")
    till.store.champion = new.sha
    assert till.record("b", total=SAFE)["bundle"] == champion().sha
    till.shelf.files[new.sha] = new.to_bytes()
    till.clock.advance(RETRY_AFTER - 1)
    assert till.record("c", total=SAFE)["bundle"] == champion().sha
    assert till.shelf.taken == [champion().sha, new.sha], "an outage costs one wait, not one a request"
    till.clock.advance(1)
    assert till.record("d", total=SAFE)["bundle"] == new.sha
    assert till.shelf.taken == [champion().sha, new.sha, new.sha]


def test_an_unreadable_first_bundle_leaves_the_fallback_policy(till):
    till.shelf.files[champion().sha] = StoreUnavailable("s3 is away")
    assert till.record("a", total=SAFE)["rules"] == []
    assert till.record("b", total=RISKY)["rules"] == ["unverified"]


def test_every_failure_of_a_bundle_is_told_once(till, refused):
    name = put(till, refused)
    away = "0" * 64
    till.shelf.files[away] = StoreUnavailable("s3 is away")
    for key, pointer in enumerate([name, away, name, away]):
        till.store.champion = pointer
        till.decide(f"k{key}", total=SAFE)
    failures = [(sha, type(error)) for sha, error in till.shelf.failures]
    assert failures == [(name, BundleRefused), (away, StoreUnavailable)]


def test_a_new_champion_is_loaded_inside_the_deadline(till):
    till.decider.decide(attempt("a"), Deadline(0.4))
    (timeout,) = till.shelf.timeouts
    assert 0.0 < timeout <= 0.2


def test_a_start_makes_the_champion_ready_before_any_request(till):
    till.decider.warm_up()
    assert till.shelf.timeouts == [START_TIMEOUT_S]
    assert till.record(total=SAFE)["bundle"] == champion().sha
    assert till.shelf.taken == [champion().sha]


def test_without_the_engine_the_fallback_policy_decides_and_it_is_told(till, monkeypatch):
    def load(self):
        raise EngineUnavailable("attach the layer")

    monkeypatch.setattr(Bundle, "load", load)
    assert till.record(total=SAFE)["bundle"] is None
    assert [type(error) for _, error in till.shelf.failures] == [EngineUnavailable]


@pytest.mark.parametrize("raw", [math.nan, math.inf, -math.inf])
def test_a_model_without_a_finite_answer_approves_nobody_as_a_good_score_would(till, monkeypatch, raw):
    monkeypatch.setattr("candor.model.lightgbm.Booster.raw", lambda self, values: raw)
    record = till.record(total=RISKY)
    assert (record["bundle"], record["score"], record["degraded"]) == (champion().sha, None, True)
    assert (record["outcome"], record["rules"]) == ("action_required", ["unverified"])


def test_the_last_few_champions_stay_ready(till):
    bundles = [other(cutoff=n / 10) for n in range(1, KEPT + 2)]
    for key, bundle in enumerate([*bundles, bundles[1], bundles[0]]):
        put(till, bundle.to_bytes())
        assert till.record(f"k{key}", total=SAFE)["bundle"] == bundle.sha
    assert till.shelf.taken == [loaded.sha for loaded in [*bundles, bundles[0]]]


def test_a_promotion_and_its_rollback_load_each_bundle_once(till):
    old, new = champion(), champion(8)
    till.shelf.files[new.sha] = new.to_bytes()
    served = []
    for key, pointer in enumerate([old.sha, new.sha, old.sha, new.sha]):
        till.store.champion = pointer
        served.append(till.record(f"k{key}", total=RISKY))
    assert [record["bundle"] for record in served] == [old.sha, new.sha, old.sha, new.sha]
    assert [record["score"] for record in served[:2]] == [record["score"] for record in served[2:]]
    assert served[0]["score"] != served[1]["score"]
    assert till.shelf.taken == [old.sha, new.sha]


def test_without_a_pointer_the_fallback_policy_decides_alone(till):
    till.store.champion = None
    small, large = till.record("a", total=SAFE), till.record("b", total=RISKY)
    assert (small["outcome"], large["outcome"]) == ("approved", "action_required")
    assert small["bundle"] is large["bundle"] is None
    assert small["degraded"] is large["degraded"] is True
    assert till.record("c", total=95_000)["reasons"] == ["H2"]


def test_every_record_names_the_policy_it_was_decided_by(till):
    new = other(policy=cell("amount", "> 1"))
    records = []
    for key, bundle in enumerate([None, champion(), new]):
        till.store.champion = bundle and put(till, bundle.to_bytes())
        records.append(till.record(f"k{key}", total=SAFE))
    assert [record["bundle"] for record in records] == [None, champion().sha, new.sha]
    assert [record["policy"] for record in records] == [
        Policy(POLICY).hash,
        Policy(champion().policy).hash,
        Policy(new.policy).hash,
    ]
    assert records[0]["policy"] == records[1]["policy"] != records[2]["policy"]


def test_a_pointer_that_is_gone_leaves_the_one_before(till):
    till.decide("a", total=SAFE)
    till.store.champion = None
    assert till.record("b", total=SAFE)["bundle"] == champion().sha


def test_a_fallback_policy_that_does_not_compile_stops_the_start():
    store = MemoryDecisionStore(MemoryFeatureStore())
    with pytest.raises(PolicyError):
        decider(store, fallback_policy=cell("amount", ">"))


def test_shelves_of_two_scorers_are_their_own():
    store = MemoryDecisionStore(MemoryFeatureStore(), champion().sha)
    empty = Shelf()
    empty.files[champion().sha] = BundleRefused("never")
    first, second = Till(store, empty), Till(store, Shelf(champion()), FixedClock(NOW))
    assert first.record("a", total=SAFE)["bundle"] is None
    assert second.record("b", total=SAFE)["bundle"] == champion().sha
