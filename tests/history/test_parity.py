"""Online and offline give the same bits: the updater's items read back, against SQL over the archived events."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candor.clock import DAY
from candor.contracts import Applicant, Application, Checkout, Device, Offer
from candor.features.vector import build
from candor.store.memory import MemoryFeatureStore
from history.point_in_time import Question, point_in_time
from tests.builders import NOW, RETENTION, bits, random_event, take_in

DEFINITIONS = pytest.importorskip("lender").DEFINITIONS


def asked(number: int, q: int) -> Question:
    checkout = Checkout(
        f"chk_{number}",
        "order",
        "US",
        "USD",
        20_000,
        [],
        Applicant(f"customer_{number}"),
        Offer("pay_in_4", 4, 14),
        device=Device(f"device_{number}"),
    )
    return Question(f"{number}@{q}", q, Application(checkout, f"merchant_{number}"))


def online(store: MemoryFeatureStore, question: Question) -> list[float]:
    keys = {view.name: view.entity.key_of(question.application) for view in DEFINITIONS.views}
    items = {view.name: view.item_keys(str(keys[view.name])) for view in DEFINITIONS.views}
    reads = store.load([key for found in items.values() for key in found])
    return build(DEFINITIONS, reads, items, question.application.checkout, question.q, RETENTION.items).values


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([1, 40, 250]))
def test_every_declared_feature_has_the_same_bits_online_and_offline(seed, size):
    rng = random.Random(seed)
    near = [NOW - 1, NOW, NOW + 1, NOW - DAY, NOW - 7 * DAY]
    moments = near + [NOW - rng.randrange(200 * DAY) for _ in range(60)]
    events = [random_event(number, DEFINITIONS, moments, rng) for number in range(size)]
    arrived = events + rng.sample(events, size // 3)
    rng.shuffle(arrived)
    store = MemoryFeatureStore()
    take_in(arrived, DEFINITIONS, store, batch=rng.randrange(1, 60))
    questions = [asked(number, q) for number in range(3) for q in (NOW, NOW + 1, NOW + DAY)]
    offline = point_in_time(DEFINITIONS, arrived, questions)
    for row, question in enumerate(questions):
        found, wanted = bits(online(store, question)), bits(offline.vector(row))
        differing = [n for n, a, b in zip(offline.names, found, wanted, strict=True) if a != b]
        assert not differing, question.row_id
