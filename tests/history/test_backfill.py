"""Backfill while events flow, and recomputation of an entity: no event is lost or counted twice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from candor import Definitions, Entity, EventType, FeatureView, Money, Sum
from candor.clock import DAY, HOUR, MINUTE, FixedClock
from candor.contracts import Event
from candor.features.state import ViewState
from candor.features.vector import Read
from candor.ingest import ingest
from candor.store.memory import MemoryFeatureStore
from candor.store.protocol import Committed
from history.archive.commits import LogUnusable
from history.archive.events import Arrival
from history.rebuild.backfill import Backfill, Counts, fill, gathered, spread
from history.rebuild.recompute import NotFillable, held_events, rebuilding_commit
from history.rebuild.verification import Verified, drawn, verify
from tests.builders import (
    NOW,
    RETENTION,
    bits,
    customer,
    definitions_of,
    event,
    only_key,
    shop,
    stored_values,
    take_in,
    view_of,
)
from tests.history.logged import LoggedStore


@pytest.fixture(scope="module", autouse=True)
def items_of_any_size() -> Iterator[None]:
    """Lift the item size limit: every aggregation over these windows exceeds DynamoDB's."""
    with patch("candor.features.definitions.LARGEST_ITEM", 2**62):
        yield


WINDOWS = ["1h", "7d", "90d", "lifetime"]
STEADY = view_of(WINDOWS, customer)
BUSY = view_of(["1h", "30d"], shop)


def history(rng: random.Random, count: int = 300) -> list[Arrival]:
    """Return arrivals of 200 days, some late, some duplicated, a few voided, in order of arrival."""
    arrivals = []
    for number in range(count):
        occurred_at = NOW - rng.randrange(200 * DAY)
        entities = {"customer": rng.choice(["ann", "bob"]), "shop": "corner"}
        new = event(
            f"e{number}", occurred_at, entities=entities, amount=rng.randrange(100), kind=rng.choice("ab")
        )
        taken_at = min(occurred_at + rng.choice([0, MINUTE, 3 * DAY]), NOW - 1)
        arrivals.append(Arrival(taken_at, new))
        if rng.random() < 0.1:
            arrivals.append(Arrival(min(taken_at + rng.randrange(5 * DAY), NOW - 1), new))
    return sorted(arrivals, key=lambda arrival: arrival.taken_at)


def live(store: LoggedStore, view, arrivals, since: int, rng: random.Random, until: int = NOW + DAY) -> None:
    """Run the updater since the version was deployed; some events arrive late, from the dead-letter queue."""
    alone = definitions_of(view)
    queue = [(arrival.taken_at + rng.choice([0, 0, 0, 10 * DAY]), arrival.event) for arrival in arrivals]
    for at, arrived in sorted(queue, key=lambda arrival: arrival[0]):
        if since <= at < until:
            store.now = at
            assert not ingest([arrived], alone, store, FixedClock(at), RETENTION).failed


def filled(tmp_path, store, view, arrivals, *, started_at: int = NOW, log=None):
    for _ in spread(arrivals, view, tmp_path):
        pass
    filling = Backfill(view, started_at, RETENTION)
    clock = FixedClock(started_at)
    logged = store.log if log is None else log
    counts = Counts()
    for path in sorted(tmp_path.iterdir()):
        counts += fill(filling, gathered(path), logged, definitions_of(view), store, clock)
    return counts


def expected(view, arrivals):
    store = MemoryFeatureStore()
    take_in([arrival.event for arrival in arrivals], definitions_of(view), store)
    return store


def assert_equal(store, view, arrivals, tokens):
    other = expected(view, arrivals)
    for token in tokens:
        for q in (NOW, NOW + 40 * DAY):
            assert bits(stored_values(store, view, token, q)) == bits(stored_values(other, view, token, q))


@pytest.mark.parametrize(
    "deployed", [NOW - 90 * DAY, NOW - 25 * DAY, NOW - HOUR], ids=["long ago", "before", "now"]
)
@pytest.mark.parametrize(
    ("view", "tokens"), [(STEADY, ["ann", "bob"]), (BUSY, ["corner"])], ids=["steady", "hot"]
)
@pytest.mark.parametrize("seed", range(4))
def test_a_filled_version_equals_one_that_saw_everything(tmp_path, view, tokens, deployed, seed):
    rng = random.Random(seed)
    arrivals = history(rng)
    store = LoggedStore()
    live(store, view, arrivals, deployed, rng, until=NOW)
    counts = filled(tmp_path, store, view, arrivals)
    assert not counts.failures
    assert counts.filled == counts.items > 0
    live(store, view, arrivals, NOW, rng)  # what the queues still hold comes after
    assert_equal(store, view, arrivals, tokens)


@pytest.mark.parametrize("crash_after", [0, 1])
@pytest.mark.parametrize(
    ("view", "tokens"), [(STEADY, ["ann", "bob"]), (BUSY, ["corner"])], ids=["steady", "hot"]
)
def test_a_filling_that_was_cut_short_goes_on(tmp_path, view, tokens, crash_after):
    arrivals = history(random.Random(7))
    store = LoggedStore()
    store.crash_after = crash_after
    assert filled(tmp_path, store, view, arrivals).failures["gone"]
    store.crash_after = None
    filled(tmp_path, store, view, arrivals)
    again = filled(tmp_path, store, view, arrivals)
    assert (again.filled, again.before) == (0, again.items)
    assert_equal(store, view, arrivals, tokens)


def test_what_the_log_does_not_tell_yet_the_item_remembers(tmp_path):
    """An event of the longest path through the dead-letter queue arrived just before the backfill started."""
    horizon = RETENTION.event_ids
    first = event("e1", NOW - horizon - 30 * MINUTE, amount=7, kind="a")
    store = LoggedStore()
    live(store, STEADY, [Arrival(NOW - 45 * MINUTE, first)], NOW - HOUR, random.Random(1))
    filled(tmp_path, store, STEADY, [Arrival(first.occurred_at, first)], log={})
    assert_equal(store, STEADY, [Arrival(first.occurred_at, first)], ["ann"])


def test_the_updater_may_write_between_reading_and_writing(tmp_path):
    arrivals = history(random.Random(3))
    store = LoggedStore()
    store.now = NOW
    late = event("late", NOW - MINUTE, amount=5, kind="a")
    load = store.load

    def overtaken(keys):
        reads = load(keys)
        if keys == [only_key(STEADY, "ann")]:
            store.load = load
            ingest([late], definitions_of(STEADY), store, FixedClock(NOW), RETENTION)
        return reads

    store.load = overtaken
    assert not filled(tmp_path, store, STEADY, arrivals).failures
    assert store.load == load
    assert_equal(store, STEADY, [*arrivals, Arrival(NOW, late)], ["ann", "bob"])


def test_an_item_older_than_its_memory_needs_the_log(tmp_path):
    arrivals = history(random.Random(5))
    store = LoggedStore()
    live(store, STEADY, arrivals, NOW - 90 * DAY, random.Random(5), until=NOW)
    counts = filled(tmp_path, store, STEADY, arrivals, log={})
    assert counts.filled == 0
    assert all("wait until it is delivered" in cause for cause in counts.failures)
    assert counts.failures.total() == 2


def stale_item():
    """A payment was voided after its tile was folded, so its maximum cannot be subtracted."""
    events = [event(f"e{n}", NOW - 60 * DAY + n * HOUR, amount=n, kind="a") for n in range(80)]
    void = Event(
        **{**{f: getattr(events[40], f) for f in events[40].__struct_fields__}, "voided_at": NOW - DAY}
    )
    store = LoggedStore()
    take_in([*events, void], definitions_of(STEADY), store)
    return store, [*events, void]


def rebuilt(store, arrivals):
    key = only_key(STEADY, "ann")
    read = store.load([key])[key]
    events = held_events(store.log[key], arrivals)
    commit = rebuilding_commit(STEADY, key, read, events, store.log[key], NOW, RETENTION)
    assert isinstance(store.commit(commit), Committed)


def test_a_stale_item_is_exact_once_it_is_rebuilt():
    store, events = stale_item()
    key = only_key(STEADY, "ann")
    assert ViewState.decode(STEADY, store.items[key].blob).stale
    rebuilt(store, [Arrival(NOW, past) for past in events])
    assert not ViewState.decode(STEADY, store.items[key].blob).stale
    left = [Arrival(NOW, past) for past in events[:-1] if past.id != "e40"]
    assert_equal(store, STEADY, left, ["ann"])
    take_in(events, definitions_of(STEADY), store)  # redelivered: known, both the event and its void
    assert_equal(store, STEADY, left, ["ann"])


def test_no_moment_before_a_void_can_be_answered_by_a_rebuilt_item():
    store, events = stale_item()
    rebuilt(store, [Arrival(NOW, past) for past in events])
    state = ViewState.decode(STEADY, store.items[only_key(STEADY, "ann")].blob)
    assert state.answers(NOW)
    assert not state.answers(NOW - 2 * DAY)


def test_a_damaged_item_is_rebuilt_with_its_memory():
    store, events = stale_item()
    key = only_key(STEADY, "ann")
    whole = store.items[key]
    store.items[key] = Read("present", whole.blob[:-1] + b"?", whole.version)
    rebuilt(store, [Arrival(NOW, past) for past in events])
    take_in(events, definitions_of(STEADY), store)
    assert_equal(store, STEADY, [Arrival(NOW, past) for past in events[:-1] if past.id != "e40"], ["ann"])


def test_a_void_whose_event_is_still_to_come_is_kept():
    original = event("e1", NOW - DAY, amount=7, kind="a")
    void = Event(
        original.id, original.type, original.occurred_at, original.entities, original.data, NOW - HOUR
    )
    store = LoggedStore()
    take_in([void], definitions_of(STEADY), store)
    rebuilt(store, [Arrival(NOW, void)])
    take_in([original], definitions_of(STEADY), store)
    assert stored_values(store, STEADY, "ann")[0] == 0.0


def test_nothing_is_rebuilt_from_half_an_archive():
    store, events = stale_item()
    with pytest.raises(LogUnusable, match="archive lacks"):
        rebuilt(store, [Arrival(NOW, past) for past in events[1:]])


def test_nothing_is_rebuilt_where_nothing_stands():
    with pytest.raises(NotFillable, match="no such item"):
        rebuilding_commit(STEADY, "key", Read("absent"), [], [], NOW, RETENTION)


@pytest.mark.parametrize(("view", "count"), [(STEADY, 2), (BUSY, 1)], ids=["steady", "hot"])
def test_a_filled_view_equals_the_offline_engine_and_an_empty_one_does_not(tmp_path, view, count):
    arrivals = history(random.Random(11))
    store = LoggedStore()
    filled(tmp_path, store, view, arrivals)
    events = [arrival.event for arrival in arrivals]
    arguments = (definitions_of(view), view, events, drawn(events, view, 5))
    assert verify(*arguments, store, NOW) == Verified(count, [], 0)
    assert len(verify(*arguments, MemoryFeatureStore(), NOW).different) == count


def test_a_view_that_no_checkout_is_served_with_is_verified_by_token():
    card = Entity("card")
    used = EventType("card.used", [card], {"amount": Money()})
    view = FeatureView("cards", card, [used], [Sum("amount")], ["24h"])
    definitions = Definitions(entities=[card], events=[used], views=[view])
    events = [
        event(f"e{n}", NOW - 1 - n, type="card.used", entities={"card": f"c{n % 2}"}, amount=n)
        for n in range(5)
    ]
    store = MemoryFeatureStore()
    take_in(events, definitions, store)
    arguments = (definitions, view, events, drawn(events, view, 5))
    assert verify(*arguments, store, NOW) == Verified(2, [], 0)
    assert len(verify(*arguments, MemoryFeatureStore(), NOW).different) == 2
