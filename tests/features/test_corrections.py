"""Voids: in any order of arrival, values equal those without the voided events, or the state is stale."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from candor import Count, FeatureView, Mean, Ratio, Sum, Variance, type_is
from candor.clock import DAY, HOUR, MINUTE, SECOND
from candor.features import segment, voids
from candor.features.state import MAX_SKEW, ViewState
from candor.features.voids import MOST_VOIDS
from simulation.oracle import expected
from tests.builders import NOW, bits, customer, event, failed, paid, view_of
from tests.examples import examples

WINDOWS = ["1h", "24h", "30d", "lifetime"]
EVERYTHING = view_of(WINDOWS)
GIVES_BACK = FeatureView(
    "payments",
    customer,
    [paid, failed],
    [
        Count(),
        Count(where=type_is("payment.failed"), name="failures"),
        Sum("amount"),
        Mean("amount"),
        Variance("amount"),
        Ratio(Count(where=type_is("payment.failed")), Count(), name="share"),
    ],
    WINDOWS,
)
KEY, HORIZON = "ann", 10 * DAY


def void_of(event, at=NOW):
    return replace(event, voided_at=at)


def payments(rng, size):
    span = rng.choice([HOUR, DAY, 40 * DAY])
    kinds = ["payment.succeeded", "payment.failed"]
    return [
        event(
            f"e{n}", NOW - rng.randrange(span), type=rng.choice(kinds), amount=rng.randrange(-9, 99), kind="a"
        )
        for n in range(size)
    ]


def counted(events, q):
    """The events that the naive oracle may see at `q`: without those voided before."""
    voided = {event.id for event in events if event.voided_at is not None and event.voided_at < q}
    return [event for event in events if event.voided_at is None and event.id not in voided]


def state_after(view, arrived, batch):
    """In batches, each through the codec."""
    state = ViewState.new(view)
    for start in range(0, len(arrived), batch):
        state.apply(arrived[start : start + batch], NOW, HORIZON)
        blob = state.encode()
        state = ViewState.decode(view, blob)
        assert state.encode() == blob
    return state


@pytest.mark.parametrize("view", [GIVES_BACK, EVERYTHING], ids=["invertible", "all"])
@examples(60)
@given(
    seed=st.integers(0, 2**32), size=st.integers(1, 70), head=st.sampled_from([0, 3, 32]), batch=st.integers(1, 40)
)  # fmt: skip
def test_in_any_order_voided_events_do_not_count(view, seed, size, head, batch):
    rng = random.Random(seed)
    events = payments(rng, size)
    voids = [
        void_of(voided, max(voided.occurred_at, NOW - rng.choice([0, SECOND, MAX_SKEW, HOUR, DAY])))
        for voided in rng.sample(events, rng.randrange(size + 1))
    ]
    arrived = events + voids + rng.sample(events + voids, (len(events) + len(voids)) // 3)
    rng.shuffle(arrived)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "HEAD_EVENTS", head)
        state = state_after(view, arrived, batch)
        if (
            view is GIVES_BACK and len(voids) <= MOST_VOIDS
        ):  # more may have waited for their events than there is room for
            assert not state.stale
        newest = state.watermark
        for q in (newest - MINUTE, newest, newest + 1, newest + HOUR, newest + DAY, newest + 40 * DAY):
            if state.answers(q) and not state.stale:
                wanted = expected(view, counted([*events, *voids], q), KEY, q)
                assert bits(state.values(q)) == bits(wanted), q
        later = event("later", newest + 2 * MAX_SKEW, amount=1)
        state.apply([later], NOW, HORIZON)
        if not state.stale:
            q = later.occurred_at + 1
            assert bits(state.values(q)) == bits(expected(view, counted([*events, *voids, later], q), KEY, q))
            assert not state.base.voids


def test_a_void_counts_from_its_own_moment():
    payment = event("e", NOW - DAY, amount=5)
    state = state_after(EVERYTHING, [payment, void_of(payment, NOW)], 5)
    counts = [
        dict(zip((f.name for f in EVERYTHING.features), state.values(q), strict=True)) for q in (NOW, NOW + 1)
    ]
    assert [features[f"{EVERYTHING.name}.count.lifetime"] for features in counts] == [1.0, 0.0]


def test_a_void_of_what_was_folded_is_given_back_or_told():
    events = [event(f"e{n}", NOW - DAY - n, amount=n) for n in range(60)]
    recent = [event(f"r{n}", NOW - n, amount=n) for n in range(40)]
    for view, stale in ((GIVES_BACK, False), (EVERYTHING, True)):
        state = state_after(view, events + recent, 50)
        applied = state.apply([void_of(events[50], NOW)], NOW, HORIZON)
        assert (len(applied.fresh), applied.went_stale, state.stale) == (1, stale, stale)
        assert ViewState.decode(view, state.encode()).stale is stale
        assert not state.apply([void_of(events[51], NOW)], NOW, HORIZON).went_stale, "told once"
    assert view is EVERYTHING


def test_a_void_of_what_is_raw_never_makes_an_item_stale():
    events = [event(f"e{n}", NOW - n * DAY, amount=n) for n in range(30)]
    voids = [void_of(voided) for voided in events[::2]]
    state = state_after(EVERYTHING, events + voids, 7)
    assert not state.stale
    assert bits(state.values(NOW + 1)) == bits(expected(EVERYTHING, events[1::2], KEY, NOW + 1))


def test_voids_of_events_that_never_come_do_not_pile_up():
    strangers = [void_of(event(f"x{n}", NOW - 3 * DAY, amount=1), NOW - 2 * DAY + n) for n in range(200)]
    state = state_after(GIVES_BACK, [*strangers, event("e", NOW, amount=1)], 20)
    assert len(state.base.voids.waiting) <= voids.MOST_VOIDS


def test_a_void_has_an_id_of_its_own_and_counts_once():
    payment = event("e", NOW - DAY, amount=5)
    state = ViewState.new(GIVES_BACK)
    assert [
        len(state.apply([each], NOW, HORIZON).fresh)
        for each in (payment, void_of(payment), payment, void_of(payment))
    ] == [
        1,
        1,
        0,
        0,
    ]


def test_an_ordinary_item_carries_nothing_for_voids_and_tombstones():
    state = state_after(GIVES_BACK, [event("e", NOW, amount=1)], 1)
    plain = len(state.encode())
    state.erased_at = NOW
    assert len(state.encode()) == plain + 16
