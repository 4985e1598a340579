"""The event path with a store that fails, conflicts and loses responses: no event lost or counted twice."""

import random
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from candor import Count, FeatureView, Sum
from candor.clock import DAY, SECOND, FixedClock
from candor.errors import StoreUnavailable
from candor.features.state import ViewState
from candor.features.vector import ABSENT, UNAVAILABLE, Read, Version, view_values
from candor.ingest import ATTEMPTS, Backoff, ingest
from candor.store.memory import MemoryFeatureStore
from candor.store.protocol import MARKERS_PER_COMMIT, Committed
from simulation.oracle import expected
from tests.builders import (
    NOW,
    RETENTION,
    bits,
    customer,
    definitions_of,
    event,
    failed,
    only_key,
    paid,
    shop,
    stored_values,
    view_of,
)
from tests.examples import examples

VIEW = view_of(["1h", "30d", "lifetime"])
SHOP_VIEW = view_of(["lifetime"], shop)
BOTH = definitions_of(VIEW, SHOP_VIEW)
PAIR = {"customer": "ann", "shop": "mer"}


@pytest.fixture(scope="module", autouse=True)
def pauses():
    """Nobody waits here: the pauses that writers would have made, in seconds, drawn in turn as 0, a half, 0 …"""
    made: list[float] = []
    backoff = Backoff(draw=lambda: len(made) % 2 / 2, sleep=made.append)
    with patch("candor.ingest.BACKOFF", backoff):
        yield made


class Recording(MemoryFeatureStore):
    """Records every commit tried."""

    def __init__(self):
        super().__init__()
        self.commits = []

    def commit(self, commit):
        self.commits.append(commit)
        return super().commit(commit)


class Troubled(Recording):
    """Before a commit, draws one of: nothing, a competing writer, no answer before or after the write."""

    def __init__(self, rng, competitor=None):
        super().__init__()
        self.rng = rng
        self.competitor = competitor
        self.calm = False

    def load(self, keys):
        reads = super().load(keys)
        lost = self.rng.random() < 0.2 and not self.calm
        return dict.fromkeys(keys, UNAVAILABLE) if lost else reads

    def commit(self, commit):
        trouble = "none" if self.calm else self.rng.choice(["none", "before", "after", "competitor"])
        if trouble == "before":
            raise StoreUnavailable("no answer")
        if trouble == "competitor" and self.competitor:
            self.competitor(self)
        outcome = super().commit(commit)
        if trouble == "after":
            raise StoreUnavailable("the answer was lost")
        return outcome


def run(events, store, definitions=BOTH, now=NOW, **more):
    return ingest(events, definitions, store, FixedClock(now), RETENTION, **more)


def values_of(store, view=VIEW, key="ann", q=NOW):
    """Current items, without the store's faults."""
    reads = [store.items.get(item, ABSENT) for item in view.item_keys(key)]
    return bits(view_values(view, reads, q)[1])


def wanted(events, view=VIEW, key="ann", q=NOW):
    return bits(expected(view, events, key, q))


def test_one_commit_for_each_view_and_entity_whatever_the_number_of_events():
    events = [event(f"e{n}", NOW - n, entities=PAIR, amount=n) for n in range(10)]
    store = Recording()
    outcome = run(events, store)
    assert (outcome.refused, outcome.failed) == ({}, {})
    shards = {SHOP_VIEW.item_key("mer", event.id) for event in events}
    assert sorted(commit.key for commit in store.commits) == sorted([only_key(VIEW, "ann"), *shards])
    assert values_of(store) == wanted(events)
    assert values_of(store, SHOP_VIEW, "mer") == wanted(events, SHOP_VIEW, "mer")


def test_a_commit_carries_ids_moment_and_expiry_and_markers_only_where_needed():
    store = Recording()
    run([event("e1", NOW - DAY, entities=PAIR), event("e3", NOW, entities=PAIR)], store)
    ring, markers = sorted(store.commits, key=lambda commit: commit.key)
    assert SHOP_VIEW.item_key("mer", "e1") == SHOP_VIEW.item_key("mer", "e3"), "both in one shard"
    for commit in (ring, markers):
        assert (commit.event_ids, commit.applied_at, commit.seen) == (["e1", "e3"], NOW, None)
        view = next(view for view in BOTH.views if commit.key.startswith(f"{view.name}@"))
        kept = view.item_expiry_ms
        assert commit.expires_at == (None if kept is None else (NOW + kept) // SECOND)
    assert ring.marker_expiry is None
    assert markers.marker_expiry == (NOW + RETENTION.event_ids) // SECOND


def test_more_events_than_a_transaction_takes_go_in_several_commits():
    events = [event(f"e{n}", NOW - n, entities={"shop": "mer"}, amount=n) for n in range(900)]
    store = Recording()
    run(events + events, store)
    assert max(len(commit.event_ids) for commit in store.commits) == MARKERS_PER_COMMIT
    assert len(store.marks) == 900
    assert values_of(store, SHOP_VIEW, "mer") == wanted(events, SHOP_VIEW, "mer")


def test_nothing_new_writes_nothing():
    events = [event("e1", NOW - 1, entities=PAIR, amount=1)]
    store = Recording()
    run(events, store)
    before = dict(store.items)
    assert run(events * 3, store).failed == {}
    assert store.items == before


def test_an_empty_batch_is_no_work():
    store = Recording()
    outcome = run([], store)
    assert (outcome.refused, outcome.failed, store.commits) == ({}, {}, [])


def test_an_event_of_no_view_or_without_the_views_entity_is_accepted_and_applied_nowhere():
    store = Recording()
    assert (
        run([event("e", NOW, entities={"customer": "ann"})], store, definitions_of(SHOP_VIEW)).refused == {}
    )
    assert store.commits == []


POISON = {
    "unknown type": {"type": "payment.imagined"},
    "future": {"occurred_at": NOW + 300_001},
    "voided before": {"occurred_at": NOW - 5, "voided_at": NOW - 6},
    "voided in future": {"voided_at": NOW + 300_001},
    "no entity": {"entities": {"loan": "x"}},
    "float": {"amount": 1.5},
    "bool": {"amount": True},
    "huge": {"amount": 10**40},
    "text": {"amount": "10"},
    "currency": {"currency": "usd"},
    "currency of another kind": {"currency": [{}]},
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_a_poisoned_event_is_refused_and_its_neighbours_are_applied(poison):
    good = [event(f"e{n}", NOW - n, entities=PAIR, amount=n) for n in range(4)]
    bad = event("bad", **{"occurred_at": NOW, "entities": PAIR, **poison})
    store = MemoryFeatureStore()
    outcome = run([*good[:2], bad, *good[2:]], store)
    assert list(outcome.refused) == [2]
    assert outcome.failed == {}
    assert values_of(store) == wanted(good)


STRAY = [1.5, "text", [1], {"a": 1}, True, 10**40, None]


@pytest.mark.parametrize("stray", STRAY, ids=repr)
def test_data_that_no_declaration_knows_never_break_a_batch(stray):
    good = event("good", NOW - 1, entities=PAIR, amount=5)
    odd = event("odd", NOW - 2, type="payment.failed", entities=PAIR, amount=1, kind=stray, other=stray)
    noted = event("noted", NOW - 3, entities=PAIR, amount=2, note=stray)
    store = MemoryFeatureStore()
    outcome = run([odd, good, noted], store)
    assert (outcome.refused, outcome.failed) == ({}, {})
    assert values_of(store) == wanted([odd, good, noted])


def test_unreadable_items_fail_their_events_only_and_nothing_is_written_over_them():
    ann, bob = (event(f"e-{name}", NOW - 1, entities={"customer": name}, amount=1) for name in ("ann", "bob"))
    store = Recording()
    everything = store.load
    store.load = lambda keys: everything(keys) | {only_key(VIEW, "ann"): UNAVAILABLE}
    outcome = run([ann, bob], store)
    assert outcome.failed == {"e-ann": "the item could not be read"}
    assert set(store.items) == {only_key(VIEW, "bob")}


def test_a_damaged_item_fails_its_events_and_stays_as_it_is():
    damaged = Read("present", b"damaged", Version(1, 1))
    store = Recording()
    store.items[only_key(VIEW, "ann")] = damaged
    outcome = run([event("e", NOW, entities=PAIR, amount=1)], store)
    assert "checksum" in outcome.failed["e"]
    assert store.items[only_key(VIEW, "ann")] == damaged
    assert {*SHOP_VIEW.item_keys("mer")} & store.items.keys(), "the event's other views are applied"


def test_an_event_that_failed_in_one_view_is_counted_once_in_all_after_redelivery():
    events = [event("e", NOW - 1, entities=PAIR, amount=1)]
    store = Recording()
    committing, broken = store.commit, only_key(VIEW, "ann")

    def commit(wanted_commit):
        if wanted_commit.key == broken:
            raise StoreUnavailable("no answer")
        return committing(wanted_commit)

    store.commit = commit
    assert run(events, store).failed == {"e": "no answer"}
    store.commit = committing
    assert run(events, store).failed == {}
    assert values_of(store) == wanted(events)
    assert values_of(store, SHOP_VIEW, "mer") == wanted(events, SHOP_VIEW, "mer")


@pytest.mark.parametrize("entity", [customer, shop], ids=["ring", "markers"])
def test_a_commit_whose_answer_was_lost_is_not_applied_again(entity):
    view = view_of(["lifetime"], entity)
    definitions = definitions_of(view)
    events = [event("e", NOW - 1, entities={entity.name: "x"}, amount=1)]
    store = MemoryFeatureStore()
    committing = store.commit

    def lost(commit):
        committing(commit)
        raise StoreUnavailable("the answer was lost")

    store.commit = lost
    assert run(events, store, definitions).failed == {"e": "the answer was lost"}
    store.commit = committing
    assert run(events, store, definitions).failed == {}
    assert values_of(store, view, "x") == wanted(events, view, "x")


@pytest.mark.parametrize("entity", [customer, shop], ids=["ring", "markers"])
def test_on_a_conflict_the_events_are_applied_to_what_stands(entity):
    view = view_of(["lifetime"], entity)
    definitions = definitions_of(view)
    shard = view.item_keys("x")[0]
    names = [name for n in range(60) if view.item_key("x", name := f"e{n}") == shard][:6]
    theirs = [event(names[n], NOW - 9, entities={entity.name: "x"}, amount=n) for n in range(3)]
    ours = [event(names[n + 3], NOW - 5, entities={entity.name: "x"}, amount=n) for n in range(3)]
    store = Recording()
    committing = store.commit

    def overtaken(commit):
        store.commit = committing
        run([*theirs, ours[0]], store, definitions)
        return committing(commit)

    store.commit = overtaken
    assert run(ours, store, definitions).failed == {}
    assert values_of(store, view, "x") == wanted([*theirs, *ours], view, "x")
    assert [len(commit.event_ids) for commit in store.commits][-1] == 2, "one was known already"


def test_endless_conflicts_are_left_to_redelivery(pauses):
    pauses.clear()
    store = Recording()
    numbers = iter(range(100))
    committing = store.commit

    def always_overtaken(commit):
        current = store.items.get(commit.key)
        birth = current.version if current else Version(1, 0)
        store.items[commit.key] = Read(
            "present", ViewState.new(VIEW).encode(), Version(birth.birth, birth.n + 1 + next(numbers))
        )
        return committing(commit)

    store.commit = always_overtaken
    outcome = run([event("e", NOW, amount=1)], store)
    assert outcome.failed == {"e": f"{ATTEMPTS} conflicting writers on one item"}
    assert len(store.commits) == ATTEMPTS
    longest = [0.05, 0.1, 0.2, 0.4, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    assert pauses == pytest.approx([most * (n % 2) / 2 for n, most in enumerate(longest)])


def test_after_a_conflict_a_writer_waits_and_looks_again(pauses):
    """The item of the conflict is outdated after the pause: writing on it would conflict again."""
    pauses.clear()
    store = Recording()
    run([event("first", NOW - 9, amount=1)], store)
    committing, loading = store.commit, store.load

    def overtaken(commit):
        store.commit = committing
        run([event("second", NOW - 8, amount=1)], store)
        return committing(commit)

    def paused(keys):
        if len(pauses) == 1:
            store.load = loading
            run([event("third", NOW - 7, amount=1)], store)
        return loading(keys)

    store.commit, store.load = overtaken, paused
    assert run([event("ours", NOW - 6, amount=1)], store).failed == {}
    assert len(pauses) == 1
    assert len(store.commits) == 5, "one of them in vain"
    assert values_of(store) == wanted(
        [event(name, NOW - 9 + n, amount=1) for n, name in enumerate(("first", "second", "third", "ours"))]
    )


def test_an_item_that_expired_between_read_and_write_is_born_again():
    store = Recording()
    first, second = event("e1", NOW - DAY, amount=1), event("e2", NOW - 1, amount=2)
    run([first], store)
    read = store.items.pop(only_key(VIEW, "ann"))
    loading = store.load

    def before_it_expired(keys):
        store.load = loading
        return dict.fromkeys(keys, read)

    store.load = before_it_expired
    assert run([second], store).failed == {}
    assert values_of(store) == wanted([second])
    assert store.commits[-1].seen is None


@examples(40)
@given(seed=st.integers(0, 2**32), writers=st.sampled_from([1, 3]))
def test_under_any_trouble_redelivery_until_done_gives_the_oracles_state(seed, writers):
    rng = random.Random(seed)
    people = [{"customer": "ann", "shop": "mer"}, {"customer": "bob", "shop": "mer"}]
    events = [
        event(
            f"e{n}", NOW - rng.randrange(40 * DAY), entities=rng.choice(people), amount=rng.randrange(-9, 99)
        )
        for n in range(60)
    ]

    def compete(store):
        calm, store.calm = store.calm, True
        run(rng.sample(events, 5), store)
        store.calm = calm

    store = Troubled(rng, compete if writers == 1 else None)
    queue = events + rng.sample(events, 20)
    for _ in range(200):
        rng.shuffle(queue)
        batch, queue = queue[:25], queue[25:]
        outcome = run(batch, store, writers=writers)
        assert not outcome.refused
        queue += [event for event in batch if event.id in outcome.failed]
        if not queue:
            break
    assert not queue
    for view, key in ((VIEW, "ann"), (VIEW, "bob"), (SHOP_VIEW, "mer")):
        assert values_of(store, view, key) == wanted(events, view, key)


def test_versions_count_commits():
    store = Recording()
    for n in range(5):
        run([event(f"e{n}", NOW - n, amount=n)], store)
    assert store.items[only_key(VIEW, "ann")].version == Version(1, 5)
    assert store.commit(store.commits[-1]) != Committed(Version(1, 5))


def test_items_of_a_synchronous_view_have_a_store_of_their_own():
    burst = FeatureView("burst", customer, [paid, failed], [Count()], ["1h"], synchronous=True)
    store, synchronous = Recording(), Recording()
    events = [event("e", NOW, entities=PAIR)]
    assert run(events, store, definitions_of(VIEW, burst), synchronous_store=synchronous).failed == {}
    assert (set(store.items), set(synchronous.items)) == ({only_key(VIEW, "ann")}, {only_key(burst, "ann")})
    assert run(events, store, definitions_of(VIEW, burst), synchronous_store=synchronous).failed == {}
    assert len(synchronous.commits) == 1, "the copy is known there"


def test_what_was_left_out_of_a_view_is_told_once_an_event():
    day, hour = view_of(["24h"]), view_of(["1h"], shop)
    store, definitions = Recording(), definitions_of(day, hour)
    run([event(f"e{n}", NOW - n, entities=PAIR) for n in range(40)], store, definitions)
    old = event("old", NOW - 3 * DAY, entities=PAIR)
    assert run([old, old], store, definitions).too_late == {"old"}
    erased = ViewState.new(day)
    erased.erase(NOW)
    store.items[only_key(day, "ann")] = Read("present", erased.encode(), Version(1, 9))
    outcome = run([event("mine", NOW - 1), old], store, definitions)
    assert (outcome.erased, outcome.failed) == ({"mine", "old"}, {})


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [2, 1, 0]])
def test_an_id_that_reads_as_another_ones_void_is_refused(order):
    """It was known by the id of that void: whichever of the two came second was taken for a copy."""
    first = event("a", NOW - 9, amount=500)
    events = [first, replace(first, voided_at=NOW - 5), event("a~void", NOW - 3, amount=77)]
    store, view = MemoryFeatureStore(), FeatureView("sums", customer, [paid], [Sum("amount")], ["1h"])
    outcome = run([events[place] for place in order], store, definitions_of(view))
    (refusal,) = outcome.refused.values()
    assert (refusal.code, refusal.field) == ("invalid_field", "event_id")
    assert stored_values(store, view, "ann") == [0.0]


def test_an_item_that_goes_stale_is_told():
    events = [event(f"e{n}", NOW - DAY - n, amount=n) for n in range(60)]
    store = Recording()
    run([*events, *(event(f"r{n}", NOW - n) for n in range(40))], store)
    void = event("e50", events[50].occurred_at, amount=50, voided_at=NOW)
    assert run([void], store).stale == {only_key(VIEW, "ann")}
    assert run([event("after", NOW)], store).stale == set()
    assert store.commits[-2].event_ids == ["e50~void"]
    again = "whoever applied it first may have died before it could say so"
    assert run([void], store).stale == {only_key(VIEW, "ann")}, again
