"""One decision per merchant and key; repeated requests get the same bytes, whatever has changed since."""

from __future__ import annotations

import hmac
import json
import re
import threading
from base64 import b32encode
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec import structs

from candor.clock import DAY, Deadline
from candor.decision import decision_id
from candor.errors import InvalidInput
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from tests.decide.lending import NOW, RISKY, SAFE, Till, attempt, champion, decider, happened, take_in


def test_the_same_again_is_answered_from_the_record(till):
    first = till.decide(total=SAFE)
    again = till.decide(total=SAFE)
    assert not first.replayed
    assert again.replayed
    assert again.decision is None
    assert again.body == first.body
    assert len(till.store.decisions) == 1


def test_later_knowledge_changes_no_stored_answer(till):
    first = till.decide(total=SAFE)
    stored = dict(till.store.decisions)
    take_in(till.store.features, *[happened(f"e{n}", NOW - 1) for n in range(3)])
    till.clock.advance(3 * DAY)
    till.store.champion = None
    till.decider = decider(till.store, till.shelf, clock=till.clock)
    assert json.loads(till.decide("other", total=SAFE).body)["outcome"] == "declined"
    assert till.decide(total=SAFE).body == first.body
    assert stored.items() <= till.store.decisions.items()


def test_an_answer_of_an_earlier_release_is_repeated_byte_for_byte(till):
    first = till.decide(total=SAFE)
    made_now = json.loads(first.body)
    later = {"checkout_id", "merchant_order_id", "counter_offer"}
    earlier = json.dumps({name: value for name, value in made_now.items() if name not in later}).encode()
    ((pk, stored),) = till.store.decisions.items()
    till.store.decisions[pk] = structs.replace(stored, answer=earlier)
    again = till.decide(total=SAFE)
    assert (again.replayed, again.body) == (True, earlier)
    assert till.store.decisions[pk].record == stored.record


def test_the_record_keeps_its_members_so_that_earlier_ones_are_read_and_replayed_the_same(till):
    assert till.record(total=SAFE).keys() == {
        "id", "merchant_id", "livemode", "q", "replay_clock", "request", "vector", "definition_hash", "bundle",
        "policy", "score", "cutoff", "outcome", "component", "rules", "reasons", "degraded", "regulation_profile",
        "attempt", "propensity", "decided_at", "unseen", "terms", "adverse_action",
    }  # fmt: skip


def test_the_same_request_in_another_spelling_is_the_same(till):
    first = till.decide(total=SAFE)
    spelled_out = till.decide(total=SAFE, tax_amount=0, occurred_at=None)
    assert spelled_out.body == first.body
    assert spelled_out.replayed


@pytest.mark.parametrize(
    "other",
    [
        {"total": SAFE + 1},
        {"token": "bob"},
        {"merchant_order_id": "A-2"},
        {"device": None},
        {"country": "CA"},
        {"replay_at": NOW - 1},
    ],
)
def test_a_key_used_with_another_request_is_refused_and_the_first_answer_stands(till, other):
    first = till.decide(total=SAFE)
    with pytest.raises(InvalidInput) as refused:
        till.decide(**{"total": SAFE, **other})
    assert refused.value.code == "idempotency_key_reused"
    assert till.decide(total=SAFE).body == first.body
    assert len(till.store.decisions) == 1


def test_keys_belong_to_their_merchant(till):
    first = till.decide(total=SAFE, merchant_id="mer_1")
    second = till.decide(total=RISKY, merchant_id="mer_2")
    assert json.loads(first.body)["id"] != json.loads(second.body)["id"]
    assert len(till.store.decisions) == 2


def test_a_rehearsal_does_not_answer_the_checkout_that_follows_it(till):
    test, live = till.decide(total=SAFE, livemode=False), till.decide(total=SAFE, livemode=True)
    assert [json.loads(answer.body)["livemode"] for answer in (test, live)] == [False, True]
    assert not live.replayed
    assert len(till.store.decisions) == 2


def test_ids_are_opaque_stable_and_need_the_secret():
    name = decision_id(b"secret", "mer_1", "key", livemode=True)
    assert re.fullmatch(r"dec_[a-z2-7]{26}", name)
    assert decision_id(b"secret", "mer_1", "key", livemode=True) == name
    digest = hmac.digest(b"secret", b"mer_1\0POST /v1/decisions\0key", "sha256")
    assert name == f"dec_{b32encode(digest).decode().lower()[:26]}", (
        "it may not change: retries would decide anew"
    )
    others = [
        decision_id(b"another", "mer_1", "key", livemode=True),
        decision_id(b"secret", "mer_2", "key", livemode=True),
        decision_id(b"secret", "mer_1", "key ", livemode=True),
        decision_id(b"secret", "mer_", "1key", livemode=True),
        decision_id(b"secret", "mer_1", "key", livemode=False),
    ]
    assert len({name, *others}) == 6


def test_sixteen_scorers_with_one_key_make_one_decision():
    store = MemoryDecisionStore(MemoryFeatureStore(), champion().sha)
    tills = [Till(store) for _ in range(16)]
    together = threading.Barrier(16)

    def ask(till: Till) -> tuple[bytes, bool]:
        till.decide("warm", total=SAFE)
        together.wait(timeout=30)
        answer = till.decide("one", total=RISKY)
        return answer.body, answer.replayed

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, tills))
    assert len({body for body, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 15
    assert len(store.decisions) == 2


def test_sixteen_scorers_with_one_key_and_two_requests_refuse_one_of_them():
    store = MemoryDecisionStore(MemoryFeatureStore(), champion().sha)
    tills = [Till(store) for _ in range(16)]
    together = threading.Barrier(16)

    def ask(place: int) -> str:
        total = SAFE + place % 2
        together.wait(timeout=30)
        try:
            body = tills[place].decide("one", total=total).body
        except InvalidInput as refused:
            return refused.code
        return f"{total} {json.loads(body)['approved_amount_max']}"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert len(store.decisions) == 1
    won = int(json.loads(next(iter(store.decisions.values())).answer)["approved_amount_max"])
    expected = [
        f"{won} {won}" if SAFE + place % 2 == won else "idempotency_key_reused" for place in range(16)
    ]
    assert answers == expected


def test_the_fingerprint_tells_requests_apart_and_not_merchants():
    assert attempt(merchant_id="a").fingerprint == attempt(merchant_id="b").fingerprint
    assert attempt(total=1).fingerprint != attempt(total=2).fingerprint


def test_a_refused_request_uses_no_key(till):
    with pytest.raises(InvalidInput):
        till.decide(total=SAFE, occurred_at="2999-01-01T00:00:00Z")
    assert not till.decider.decide(attempt(total=SAFE), Deadline(60.0)).replayed
