"""Voids, expiry and clocks: only counted events are undone, and lack of proof makes the state stale."""

import pytest
from msgspec.structs import replace

from candor import Count, Delayed, FeatureView, LastK, Max, Sum
from candor.clock import DAY, HOUR, MINUTE, SECOND
from candor.errors import DefinitionError
from candor.features.segment import HEAD_EVENTS
from candor.features.state import Marker, ViewState
from candor.features.vector import Read, view_values
from candor.features.voids import MOST_VOIDS
from simulation.oracle import expected
from tests.builders import NOW, bits, customer, event, paid, shop, view_of

HORIZON = 18 * DAY


def view_over(*windows, aggregations=None, **options):
    aggregations = aggregations or [Count(), Sum("amount")]
    return FeatureView("payments", customer, [paid], aggregations, windows, **options)


MONTH = view_over("30d")


def payment(name, at, amount=10):
    return event(name, at, amount=amount)


def void(of, at, **changes):
    return replace(of, voided_at=at, **changes)


def many(count, at, amount=10):
    return [payment(f"n{n}", at + n, amount) for n in range(count)]


def fresh(*batches, view=MONTH, at=NOW):
    """A state that was committed and read again after each batch."""
    state = ViewState.new(view)
    for batch in batches:
        state.apply(batch, at, HORIZON)
        state = ViewState.decode(view, state.encode())
    return state


def old(*batches, view=MONTH):
    """The same for an item that no longer knows all ids: its first event was applied before the horizon."""
    state = ViewState.new(view)
    state.apply([payment("first", NOW - 29 * DAY)], NOW - 29 * DAY, HORIZON)
    for batch in batches:
        state.apply(batch, NOW, HORIZON)
        state = ViewState.decode(view, state.encode())
    return state


# A void whose event never came


def test_a_void_whose_event_never_came_takes_nothing_away():
    ghost = payment("ghost", NOW, 500)
    state = fresh([void(ghost, NOW + MINUTE)], many(33, NOW + HOUR))
    assert state.values(NOW + 2 * HOUR) == [33.0, 330.0]
    assert not state.stale


def test_many_voids_without_events_leave_the_sum_alone_and_the_item_bounded():
    ghosts = [void(payment(f"g{n}", NOW - DAY, 100), NOW - DAY + n) for n in range(40)]
    state = fresh(ghosts, many(33, NOW))
    assert state.values(NOW + HOUR) == [33.0, 330.0]
    assert len(state.base.voids.waiting) <= MOST_VOIDS
    assert not state.stale


def test_an_event_that_comes_after_its_void_never_counts():
    late = payment("late", NOW - HOUR, 500)
    state = fresh([void(late, NOW - MINUTE)], many(40, NOW), [late], many(40, NOW + DAY))
    assert state.values(NOW + 2 * DAY)[0] == 40 if state.stale else 80
    assert state.values(NOW + 2 * DAY) == [40.0 * 1, 400.0] or state.values(NOW + 2 * DAY) == [80.0, 800.0]


def test_an_event_that_a_forgotten_void_may_have_named_makes_the_item_stale():
    ghosts = [void(payment(f"g{n}", NOW - DAY, 100), NOW - HOUR + n) for n in range(MOST_VOIDS + 1)]
    state = fresh(ghosts, [payment("after", NOW)])
    assert not state.stale
    state.apply([payment("g0", NOW - DAY, 100)], NOW, HORIZON)
    assert state.stale


def test_a_void_of_an_id_that_may_have_been_applied_long_ago_makes_the_item_stale_and_takes_nothing():
    unknown = payment("unknown", NOW - 20 * DAY, 500)
    state = old(many(40, NOW))
    applied = state.apply([void(unknown, NOW)], NOW, HORIZON)
    assert applied.unsettled == ["unknown~void"]
    assert applied.went_stale
    assert state.values(NOW + HOUR) == [41.0, 410.0]


def test_an_item_younger_than_the_horizon_knows_that_an_id_was_never_applied():
    assert not fresh(many(40, NOW), [void(payment("unknown", NOW - 20 * DAY, 500), NOW)]).stale


def test_of_windows_shorter_than_the_horizon_no_void_of_an_unknown_id_makes_the_item_stale():
    view = view_over("24h")
    state = old(many(40, NOW), [void(payment("unknown", NOW - 20 * DAY), NOW)], view=view)
    assert not state.stale
    assert state.values(NOW + HOUR) == [40.0, 400.0]


# A void that differs from its event


@pytest.mark.parametrize("later", [0, 40], ids=["raw", "folded"])
@pytest.mark.parametrize(
    "changes", [{"data": {"amount": 450}}, {"occurred_at": NOW - 40 * DAY}, {"occurred_at": NOW - DAY}]
)
def test_a_void_takes_back_what_its_event_counted_whatever_it_says_itself(later, changes):
    counted = payment("a", NOW - 2 * DAY, 500)
    neighbour = payment("b", NOW - 2 * DAY, 7)
    more = many(later, NOW - HOUR)
    state = fresh([counted, neighbour], more, [void(counted, NOW, **changes)], [payment("z", NOW + HOUR)])
    assert state.stale is bool(later)
    assert state.values(NOW + 2 * HOUR)[1] == (later + 1) * 10 + 7 + (500 if later else 0)


def test_a_void_that_repeats_its_event_is_given_back_from_a_tile():
    counted = payment("a", NOW - 2 * DAY, 500)
    state = fresh([counted, payment("b", NOW - 2 * DAY, 7)], many(40, NOW - HOUR), [void(counted, NOW)])
    assert state.values(NOW + 1) == [41.0, 407.0]
    assert not state.stale


def test_in_marker_mode_the_marker_says_what_was_counted():
    view = FeatureView("sales", shop, [paid], [Count(), Sum("amount")], ["30d"])
    sale = event("a", NOW - 2 * DAY, entities={"shop": "mer"}, amount=500)
    state = ViewState.new(view)
    applied = state.apply([sale], NOW - 2 * DAY, HORIZON)
    state.apply(
        [event(f"n{n}", NOW - n, entities={"shop": "mer"}, amount=10) for n in range(40)], NOW, HORIZON
    )
    marker = Marker(applied.fingerprints[0], (NOW + HORIZON) // SECOND)
    assert state.doubtful([void(sale, NOW)]) == ["a", "a~void"] or "a" in state.doubtful([void(sale, NOW)])
    for changes, stale in (({}, False), ({"data": {"amount": 450}}, True)):
        item = ViewState.decode(view, state.encode())
        item.apply([void(sale, NOW, **changes)], NOW, HORIZON, {"a": marker})
        assert item.stale is stale
        assert item.values(NOW + 1) == ([41.0, 900.0] if stale else [40.0, 400.0])


def test_a_void_that_comes_again_after_the_horizon_takes_nothing_twice():
    counted = payment("a", NOW, 500)
    twice = void(counted, NOW + HOUR)
    state = fresh([counted, payment("b", NOW, 7)], many(40, NOW + HOUR), [twice])
    state.apply(many(1, NOW + DAY), NOW + 20 * DAY, HORIZON)
    state.apply([twice], NOW + 20 * DAY, HORIZON)
    assert state.stale
    assert state.values(NOW + 2 * DAY)[1] == 417.0


# Expiry


def returning(*, swept: bool, late=()):
    view = view_over("lifetime", expires_after="100d")
    before, after = payment("before", NOW), payment("after", NOW + 150 * DAY)
    state = fresh([after], view=view, at=NOW + 150 * DAY) if swept else fresh([before], [after], view=view)
    if late:
        state.apply(late, NOW + 151 * DAY, HORIZON)
    return view, state, [before, after, *late]


@pytest.mark.parametrize("swept", [False, True])
def test_a_returning_customer_begins_anew_whether_or_not_the_item_was_swept(swept):
    view, state, events = returning(swept=swept)
    q = NOW + 200 * DAY
    assert state.values(q) == [1.0, 10.0]
    assert bits(state.values(q)) == bits(expected(view, events, "ann", q))


def test_a_history_ends_by_event_time_where_nothing_continues_it():
    view = view_over("lifetime", expires_after="100d")
    item = Read("present", fresh([payment("a", NOW)], view=view).encode())
    assert view_values(view, [item], NOW + 100 * DAY) == ("present", [1.0, 10.0])
    assert view_values(view, [item], NOW + 100 * DAY + 1) == ("absent", [0.0, 0.0])


def test_a_late_event_that_closes_the_gap_makes_the_item_stale():
    assert returning(swept=False, late=[payment("between", NOW + 75 * DAY)])[1].stale


def test_a_late_event_of_the_expired_history_does_not_count():
    view, state, events = returning(swept=False, late=[payment("with it", NOW + 10 * DAY)])
    assert not state.stale
    q = NOW + 200 * DAY
    assert bits(state.values(q)) == bits(expected(view, events, "ann", q))


def test_a_window_as_long_as_items_are_kept_is_read_to_its_end():
    view = view_over("730d", "lifetime")
    state = fresh([payment("a", NOW)], view=view)
    q = NOW + 730 * DAY + 1
    assert bits(state.values(q)) == bits(expected(view, [payment("a", NOW)], "ann", q))
    assert state.values(q)[0] == 1.0


def test_an_expiry_shorter_than_the_longest_window_and_its_hop_is_refused():
    with pytest.raises(DefinitionError, match='expires_after="94d"'):
        view_over("90d", Delayed("30d", "63d"), expires_after="93d")
    assert view_over("90d", expires_after="91d").expiry_ms == 91 * DAY


# Delayed and exact windows


def test_a_delayed_window_ends_on_the_hop_so_long_before_the_moment():
    view = view_over(Delayed("24h", delay="7d"))
    events = [payment(f"e{n}", NOW - 9 * DAY + n * HOUR, 2**n) for n in range(60)]
    for state in (fresh(events, view=view), fresh(events, many(40, NOW), view=view)):
        for q in (NOW, NOW + HOUR - 1, NOW + HOUR, NOW + DAY):
            end = (q - 7 * DAY) // HOUR * HOUR
            inside = [event for event in events if end - DAY <= event.occurred_at < end]
            assert state.values(q) == [len(inside), sum(event.data["amount"] for event in inside)]
    assert view.features[0].name == "payments.count.24h_delayed_7d"


def test_exact_windows_begin_at_the_millisecond_and_overflow_honestly():
    view = view_over("30d", exact_windows=True, max_events=50)
    events = [payment(f"e{n}", NOW - 30 * DAY + n * HOUR) for n in range(50)]
    state = fresh(events, view=view)
    item = Read("present", state.encode())
    assert view_values(view, [item], NOW)[1][0] == 50.0
    assert view_values(view, [item], NOW + 1)[1][0] == 49.0
    state.apply([payment("one more", NOW - DAY)], NOW, HORIZON)
    item = Read("present", state.encode())
    assert [view_values(view, [item], q)[0] for q in (NOW, NOW + 1)] == ["unavailable", "present"]


def test_exact_windows_keep_what_a_window_reaches_and_no_more():
    view = view_over("24h", aggregations=[Count(), Max("amount")], exact_windows=True, max_events=20)
    events = [payment(f"e{n}", NOW + n * HOUR, n) for n in range(400)]
    state = fresh(*[[event] for event in events], view=view)
    assert len(state.base.head) <= 20 + HEAD_EVENTS
    q = events[-1].occurred_at + 1
    assert view_values(view, [Read("present", state.encode())], q)[0] == "unavailable"
    assert view_values(view, [Read("present", state.encode())], q + 6 * HOUR) == ("present", [18.0, 399.0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"exact_windows": True}, "max_events"),
        ({"max_events": 5}, "exact_windows"),
        ({"exact_windows": True, "max_events": 0}, "from 1"),
    ],
)
def test_exact_windows_and_their_bound_go_together(options, said):
    with pytest.raises(DefinitionError, match=said):
        view_over("30d", **options)


def test_exact_views_take_no_lifetime_and_no_delay():
    for window in ("lifetime", Delayed("1h", "1d")):
        with pytest.raises(DefinitionError, match="another view"):
            view_over(window, exact_windows=True, max_events=5)


# Duplicates that come too late


def test_in_marker_mode_a_counted_duplicate_is_not_too_late():
    view = FeatureView("sales", replace(shop, hot=True), [paid], [Count()], ["1h"])
    sale = event("a", NOW - 2 * DAY, entities={"shop": "mer"})
    state = ViewState.new(view)
    applied = state.apply([sale], NOW - 2 * DAY, HORIZON)
    state.apply([event("b", NOW, entities={"shop": "mer"})], NOW, HORIZON)
    marker = Marker(applied.fingerprints[0], (NOW + HORIZON) // SECOND)
    assert state.doubtful([sale]) == ["a"]
    assert state.apply([sale], NOW, HORIZON, {"a": marker}).too_late == []
    assert state.apply([sale], NOW, HORIZON).too_late == [sale]


# Healing


def test_healing_keeps_apart_what_comes_meanwhile_and_ends_exact():
    view = view_of(["1h", "24h", "30d", "lifetime"])
    before = [payment(f"b{n}", NOW - 2 * DAY + n * MINUTE, n) for n in range(80)]
    taken_back = void(before[3], NOW - HOUR)
    state = fresh(before, [taken_back], view=view)
    assert state.stale
    state.begin_healing(3)
    meanwhile = [payment(f"m{n}", NOW - n, n) for n in range(50)]
    for arrived in meanwhile:
        state.apply([arrived], NOW, HORIZON)
        state = ViewState.decode(view, state.encode())
    assert state.stale
    anew = ViewState.new(view)
    anew.ring, anew.since = state.ring, state.since
    anew.recompute([*before, taken_back])
    anew.finish_healing(state)
    assert not anew.stale
    for q in (NOW + 1, NOW + DAY, NOW + 40 * DAY):
        assert bits(anew.values(q)) == bits(expected(view, [*before, taken_back, *meanwhile], "ann", q))
    whole = ViewState.new(view)
    whole.recompute([*before, taken_back, *meanwhile])
    assert (whole.base.tiles, whole.base.singles, whole.base.head) == (
        anew.base.tiles,
        anew.base.singles,
        anew.base.head,
    )


def test_a_void_that_comes_while_its_event_is_computed_anew_makes_the_item_stale_once_more():
    view = view_of(["lifetime"])
    before = [payment(f"b{n}", NOW - 2 * DAY + n, n) for n in range(80)]
    state = fresh(before, [void(before[3], NOW - HOUR)], view=view)
    state.begin_healing(3)
    state.apply([void(before[79], NOW)], NOW, HORIZON)
    anew = ViewState.new(view)
    anew.recompute([*before, void(before[3], NOW - HOUR)])
    anew.finish_healing(state)
    assert anew.stale


def test_an_event_that_closes_an_expired_gap_while_the_item_is_healed_makes_it_stale_once_more():
    view = view_over("lifetime", expires_after="20d")
    gone = [payment(f"g{n}", NOW - 40 * DAY + n, 1) for n in range(6)]
    late, taken_back = payment("late", NOW - 12 * HOUR, 1), payment("orphan", NOW - HOUR, 7)
    current = [payment("current", NOW - HOUR, 1), late]
    state = fresh([*gone, *current], [void(taken_back, NOW)], view=view)
    state.begin_healing(3)
    bridge = payment("bridge", NOW - 20 * DAY - HOUR, 1)
    state.apply([bridge], NOW, HORIZON)
    anew = ViewState.new(view)
    anew.recompute([*gone, *current])
    anew.finish_healing(state)
    assert anew.stale, "eight events count from now on, of which this state knows three"
    whole = ViewState.new(view)
    whole.recompute([*gone, *current, bridge])
    assert not whole.stale
    assert whole.values(NOW + HOUR)[0] == 9.0


def test_last_k_is_of_values():
    assert LastK(Sum("amount"), 2).op == "last_k"


def test_an_event_that_comes_after_its_unproved_void_does_not_count_even_while_the_item_is_healed():
    late = payment("late", NOW - 20 * DAY, 500)
    state = old(many(40, NOW), [void(late, NOW - HOUR)])
    assert state.stale
    state.begin_healing(9)
    for batch in ([late], [payment(f"m{n}", NOW + n) for n in range(60)]):
        state.apply(batch, NOW, HORIZON)
    anew = ViewState.new(MONTH)
    anew.recompute([payment("first", NOW - 29 * DAY), *many(40, NOW), void(late, NOW - HOUR)])
    anew.finish_healing(state)
    assert anew.values(NOW + HOUR) == [101.0, 1010.0]
