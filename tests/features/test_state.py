"""Whole views through ingest: values equal the oracle's, in any order and batching of events."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from candor import Count, FeatureView, Max, Mean, Min, Sum, Variance, field, type_is
from candor.clock import DAY, HOUR, MINUTE, SECOND, FixedClock
from candor.errors import CorruptItem
from candor.features import codec, segment
from candor.features.codec import id_hash
from candor.features.plan import plan_of
from candor.features.state import MAX_SKEW, STAMP, ViewState
from candor.ingest import ingest
from candor.store.memory import MemoryFeatureStore
from candor.updates import Retention
from simulation.oracle import expected, hop_of, left_edge, length_of, seen_before, seen_lately
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
    take_in,
    view_of,
)
from tests.examples import examples

LABELS = ["1m", "90s", "10m", "1h", "100m", "24h", "7d", "30d", "90d", "365d", "731d", "lifetime"]
EVERYTHING = view_of(LABELS)
VIEWS = [
    EVERYTHING,
    view_of(["lifetime"]),
    view_of(["1m"]),
    view_of(["1h", "24h"]),
    view_of(["10m", "90d"]),
    view_of(["7d", "30d", "lifetime"]),
    view_of(["731d"]),
    view_of(["168d", "731d", "lifetime"]),
]
LAYERED = [EVERYTHING, VIEWS[3], VIEWS[4], VIEWS[5], VIEWS[7]]
"""Views whose windows have different hops: tiles pass from level to level."""

KEY = "ann"
GRAINS = [1, 10 * SECOND, MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 28 * DAY]
SPANS = [30 * SECOND, MAX_SKEW, HOUR, DAY, 40 * DAY, 200 * DAY, 900 * DAY]


def stored_state(view, store) -> ViewState:
    read = store.items[only_key(view, KEY)]
    revived = ViewState.decode(view, read.blob)
    assert revived.encode() == read.blob
    return revived


def state_after(view, events, batch=100) -> ViewState:
    store = MemoryFeatureStore()
    take_in(events, definitions_of(view), store, batch)
    return stored_state(view, store)


def without_history(state: ViewState) -> bytes:
    """The state's bytes without order-dependent members: ring, marker mode, and late events."""
    state.ring, state.markers = {}, False
    # An event that comes too late for every window is left out, one that came in time stays while it is among the newest.
    state.born, state.expired, state.base.folded = None, None, False
    reached = state.plan.oldest(state.fold_horizon)
    state.base.head = [row for row in state.base.head if reached is None or row[0] >= reached]
    return state.encode()


def assert_never_lies(view, state, events, moments):
    """Where the state can answer, it equals the oracle; and from the fold horizon on it can."""
    for q in moments:
        if state.stale:
            return
        if state.answers(q):
            assert bits(state.values(q)) == bits(expected(view, events, KEY, q)), q
            assert seen_lately(view, events, KEY, q) <= state.present(q) <= seen_before(view, events, KEY, q)
        else:
            assert q < state.exact_from


def telling_moments(view, state, events, rng, count=6):
    """Moments that reveal errors: at the newest event, at the fold horizon, and with windows' edges on events."""
    moments = {state.fold_horizon, state.fold_horizon - 1, state.watermark, state.watermark + 1, NOW}
    for _ in range(count):
        label = rng.choice(view.windows)
        at = rng.choice(events).occurred_at
        length = length_of(label) or DAY
        hop = hop_of(length)
        on_the_edge = -(-at // hop) * hop + length
        moments |= {at + rng.choice([0, 1]), on_the_edge + rng.choice([-1, 0, 1, hop - 1, hop])}
    return sorted(q for q in moments if q >= 0)


@st.composite
def moments(draw):
    """A moment in ms: near now, on a window's left edge at now, or anywhere in the past on some grid."""
    jitter = draw(st.sampled_from([-1, 0, 1]))
    match draw(st.sampled_from(["now", "skew", "edge", "grid"])):
        case "now":
            return NOW + jitter
        case "skew":
            return NOW + MAX_SKEW - draw(st.integers(0, 2 * MAX_SKEW))
        case "edge":
            edge = left_edge(draw(st.sampled_from(LABELS)), NOW)
            return (edge if edge is not None else 0) + (jitter if edge else 0)
    grain = draw(st.sampled_from(GRAINS))
    return (NOW - draw(st.integers(0, draw(st.sampled_from(SPANS))))) // grain * grain


payments = st.builds(
    lambda at, kind, amount, word: (at, kind, {"amount": amount, "kind": word}),
    moments(),
    st.sampled_from(["payment.succeeded", "payment.failed"]),
    st.none() | st.integers(-100, 100) | st.sampled_from([-(10**12), 10**12]),
    st.sampled_from(["a", "b", None]),
)


@st.composite
def histories(draw):
    rows = draw(st.lists(payments, min_size=1, max_size=12))
    return [event(f"e{n}", at, type=kind, **data) for n, (at, kind, data) in enumerate(rows)]


@examples(120)
@given(
    view=st.sampled_from(VIEWS), events=histories(), head=st.sampled_from([0, 2, 32]), data=st.data(),
    queried=st.lists(moments(), max_size=4),
)  # fmt: skip
def test_small_histories_in_any_order_with_duplicates_and_early_folding(view, events, head, data, queried):
    """A head of 0 or 2 events instead of 32 makes folding and coarsening happen in examples that shrink."""
    again = data.draw(st.lists(st.sampled_from(events), max_size=4))
    stream = data.draw(st.permutations(events + again))
    batch = data.draw(st.integers(1, len(stream)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "HEAD_EVENTS", head)
        state = state_after(view, stream, batch)
        rng = random.Random(len(stream))
        assert_never_lies(view, state, events, [*queried, *telling_moments(view, state, events, rng)])
        assert without_history(state) == without_history(state_after(view, events))


def dense_history(rng: random.Random, size: int, span: int | None = None):
    span, grain = span or rng.choice(SPANS), rng.choice(GRAINS)
    kinds = ["payment.succeeded", "payment.failed"]
    return [
        event(
            f"e{n}",
            (NOW - rng.randrange(span)) // grain * grain if n % 2 else NOW - rng.randrange(span),
            type=rng.choice(kinds),
            amount=rng.choice([rng.randrange(-100, 100), 10**12, None]),
            kind=rng.choice(["a", "b", "c", None]),
        )
        for n in range(size)
    ]


def arriving(events, order: str, rng: random.Random):
    """The events in some order; a third of them twice."""
    stream = sorted(events, key=lambda e: e.occurred_at, reverse=order == "reversed")
    if order == "shuffled":
        rng.shuffle(stream)
    for duplicate in rng.sample(events, len(events) // 3):
        stream.insert(rng.randrange(len(stream) + 1), duplicate)
    return stream


@pytest.mark.slow
@pytest.mark.parametrize("order", ["in time", "reversed", "shuffled"])
@pytest.mark.parametrize("view", LAYERED, ids=lambda view: "-".join(view.windows[-3:]))
@examples(6)
@given(size=st.integers(90, 160), seed=st.integers(0, 2**32))
def test_dense_histories_fold_and_coarsen(view, order, size, seed):
    rng = random.Random(seed)
    events = dense_history(rng, size)
    state = state_after(view, arriving(events, order, rng), rng.randrange(1, 60))
    assert_never_lies(view, state, events, telling_moments(view, state, events, rng))
    assert without_history(state) == without_history(state_after(view, events))


def test_a_state_answers_before_the_codec_as_after_it():
    events = [event(f"e{n}", NOW - n * 7 * HOUR, amount=n) for n in range(120)]
    state = ViewState.new(EVERYTHING)
    for start in range(110, -1, -10):
        state.apply(events[start : start + 10], NOW, DAY)
    assert bits(state.values(NOW + 1)) == bits(expected(EVERYTHING, events, KEY, NOW + 1))
    assert ViewState.decode(EVERYTHING, state.encode()).encode() == state.encode()


@pytest.mark.parametrize("size", [31, 32, 33])
def test_the_first_fold_is_seamless(size):
    events = [event(f"e{n}", NOW - n * HOUR, amount=n) for n in range(size)]
    state = state_after(EVERYTHING, events)
    assert bool(state.base.singles) is (size > 32)
    assert_never_lies(EVERYTHING, state, events, [NOW - DAY, NOW - MAX_SKEW, NOW, NOW + 1, NOW + DAY])


@pytest.mark.parametrize("span", [2 * DAY, 40 * DAY, 900 * DAY], ids=lambda span: f"{span // DAY}d")
def test_as_time_passes_every_batch_is_answered_like_the_oracle(span):
    """In time order, as live: tiles become coarser under the windows' left edges and merge."""
    rng = random.Random(span)
    events = sorted(dense_history(rng, 240, span), key=lambda e: e.occurred_at)
    store, definitions = MemoryFeatureStore(), definitions_of(EVERYTHING)
    for start in range(0, len(events), 16):
        take_in(events[start : start + 16], definitions, store)
        known = events[: start + 16]
        state = stored_state(EVERYTHING, store)
        after = known[-1].occurred_at + 1
        assert_never_lies(EVERYTHING, state, known, [after, after + rng.randrange(DAY)])


@pytest.mark.slow
@examples(8)
@given(seed=st.integers(0, 2**32), batch=st.sampled_from([40, 99, 100, 250]))
def test_more_ids_than_the_ring_holds_turn_to_markers_and_still_count_once(seed, batch):
    rng = random.Random(seed)
    events = dense_history(rng, 400)
    stream = arriving(events, "shuffled", rng) + rng.sample(events, 150)
    store = MemoryFeatureStore()
    take_in(stream, definitions_of(EVERYTHING), store, batch)
    state = stored_state(EVERYTHING, store)
    assert state.markers
    assert len(state.ring) + len(store.marks) == len(events)
    assert_never_lies(EVERYTHING, state, events, telling_moments(EVERYTHING, state, events, rng, 3))


@pytest.mark.parametrize(("number", "markers"), [(256, False), (257, True)])
def test_the_ring_holds_256_ids(number, markers):
    events = [event(f"e{n}", NOW - n * MINUTE, amount=n) for n in range(number)]
    assert state_after(view_of(["24h"]), events, batch=50).markers is markers


def test_a_hot_entity_starts_with_markers():
    view = view_of(["1h", "lifetime"], shop)
    events = [event(f"e{n}", NOW - n * MINUTE, entities={"shop": KEY}, amount=n) for n in range(5)]
    store = MemoryFeatureStore()
    take_in(events + events, definitions_of(view), store, batch=3)
    for read in store.items.values():
        state = ViewState.decode(view, read.blob)
        assert state.markers
        assert not state.ring
    assert store.marks.keys() == {(view.item_key(KEY, e.id), e.id) for e in events}
    assert bits(stored_values(store, view, KEY)) == bits(expected(view, events, KEY, NOW))


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("fillers", [0, 40])
def test_an_event_counts_exactly_from_its_left_edge_to_its_right_edge(label, fillers):
    view = view_of([label])
    edge = left_edge(label, NOW)
    inside = [NOW - 1] if edge is None else [NOW - 1, edge, edge + 1]
    outside = [NOW, NOW + 1] if edge is None else [NOW, NOW + 1, edge - 1]
    events = [event(f"e{n}", at, amount=1) for n, at in enumerate(inside + outside)]
    fill = [event(f"f{n}", NOW - 2, amount=1) for n in range(fillers)]
    state = state_after(view, events + fill)
    count = dict(zip((f.name for f in view.features), state.values(NOW), strict=True))
    assert count[f"{view.name}.count.{label}"] == len(inside) + fillers


def test_an_event_exactly_at_the_left_edge_stays_until_the_window_moves_by_a_hop():
    view = view_of(["24h"])
    q = NOW // HOUR * HOUR
    events = [event("edge", q - DAY, amount=7)] + [event(f"f{n}", q - MINUTE, amount=1) for n in range(40)]
    state = state_after(view, events)
    assert [state.values(at)[0] for at in (q, q + HOUR - 1, q + HOUR)] == [41, 41, 40]


def test_late_events_reach_the_tiles_they_belong_to():
    recent = [event(f"r{n}", NOW - n * MINUTE, amount=n) for n in range(60)]
    late = [event(f"l{n}", NOW - n * DAY - 1, amount=n, kind="a") for n in range(1, 100)]
    state = state_after(EVERYTHING, recent + late, batch=7)
    assert_never_lies(EVERYTHING, state, recent + late, [NOW + 1, NOW + DAY, NOW + 80 * DAY])
    assert without_history(state) == without_history(state_after(EVERYTHING, late + recent))


def test_events_dated_ahead_within_the_skew_count_only_once_their_time_has_come():
    past = [event(f"p{n}", NOW - n * SECOND, amount=1) for n in range(1, 50)]
    ahead = [event(f"a{n}", NOW + n * SECOND, amount=1) for n in range(0, 301, 10)]
    view = view_of(["1h", "lifetime"])
    state = state_after(view, past + ahead)
    assert state.answers(NOW), "the moment of a live decision is always answered"
    assert state.values(NOW)[0] == 49
    assert state.values(NOW + 1)[0] == 50
    assert_never_lies(view, state, past + ahead, range(NOW - 60_000, NOW + 360_000, 7_001))


def test_ties_of_first_and_last_break_by_id_in_head_and_tiles():
    view = view_of(["1h", "30d", "lifetime"])
    events = [event(f"e{n:03}", NOW - DAY, amount=n) for n in range(50)]
    rng = random.Random(1)
    rng.shuffle(events)
    state = state_after(view, events, batch=9)
    features = dict(zip((f.name for f in view.features), state.values(NOW), strict=True))
    assert (features[f"{view.name}.first_amount.30d"], features[f"{view.name}.last_amount.30d"]) == (
        0.0,
        49.0,
    )


def test_of_two_events_with_one_id_the_first_to_arrive_counts():
    view = view_of(["lifetime"])
    same = [event("e", NOW - 2, amount=1), event("e", NOW - 1, amount=2)]
    for batch in (1, 2):
        assert bits(state_after(view, same, batch).values(NOW)) == bits(expected(view, same, KEY, NOW))


def test_undeclared_data_are_carried_and_never_used():
    """The offline engine makes no column of them: using them online would be a skew, and text would break sums."""
    view = view_of(["lifetime"])
    for stray in ("text", 1.5, [1], {"a": 1}, True, 7):
        events = [
            event("e1", NOW - 2, type="payment.failed", amount=3, kind=stray),
            event("e2", NOW - 1, kind="a"),
        ]
        assert bits(state_after(view, events).values(NOW)) == bits(expected(view, events, KEY, NOW))


def test_an_id_is_forgotten_after_the_horizon_and_not_before():
    view = view_of(["lifetime"])
    definitions, store, clock = definitions_of(view), MemoryFeatureStore(), FixedClock(NOW)
    once = [event("e", NOW - 1, amount=1)]
    retention = Retention(event_ids=DAY)
    for wait, count in ((0, 1), (DAY, 1), (SECOND, 2)):
        clock.advance(wait)
        ingest(once, definitions, store, clock, retention)
        assert stored_state(view, store).values(clock.now_ms())[0] == count


def test_what_no_window_reaches_leaves_the_state():
    view = view_of(["1h", "24h"])
    old = [event(f"o{n}", NOW - 90 * DAY + n * DAY // 2, amount=1) for n in range(150)]
    state = state_after(view, old + [event(f"n{n}", NOW - n, amount=1) for n in range(40)])
    assert all(start + length > NOW - 26 * HOUR for start, length in [*state.base.singles, *state.base.tiles])


def test_a_state_of_years_stays_small():
    rng = random.Random(4)
    events = [event(f"e{n}", NOW - rng.randrange(900 * DAY), amount=n) for n in range(1200)]
    view = view_of(["1h", "24h", "7d", "30d", "90d"])
    state = state_after(view, sorted(events, key=lambda e: e.occurred_at))
    assert len(state.base.singles) + len(state.base.tiles) < 150


@pytest.mark.parametrize(("aggregations", "kept"), [(7, False), (8, True)])
def test_a_tile_of_one_event_keeps_the_event_where_that_is_cheaper(aggregations, kept):
    declared = [
        Count(), Count(where=type_is("payment.failed")), Sum("amount"), Sum("amount", where=field("amount") > 50),
        Mean("amount"), Variance("amount"), Min("amount"), Max("amount"),
    ]  # fmt: skip
    view = FeatureView(
        "payments", customer, [paid, failed], declared[:aggregations], ["1h", "90d", "lifetime"]
    )
    events = [event(f"e{n}", NOW - n * DAY // 2, amount=n, kind="a") for n in range(60)]
    state = state_after(view, events)
    assert bool(state.base.singles) is kept
    assert state.base.singles.keys().isdisjoint(state.base.tiles)
    assert_never_lies(view, state, events, [NOW + 1, NOW + DAY, NOW + 80 * DAY, NOW + 200 * DAY])


def test_the_empty_state_answers_every_moment():
    fresh = ViewState.new(EVERYTHING)
    assert_never_lies(EVERYTHING, fresh, [], [0, 1, NOW])
    assert ViewState.decode(EVERYTHING, fresh.encode()) == fresh


@pytest.mark.parametrize(
    "blob", [b"", b"\0", b"\0\0\0\0", b"x" * 50], ids=["empty", "one byte", "crc of nothing", "noise"]
)
def test_bytes_that_encode_did_not_write_are_corrupt(blob):
    with pytest.raises(CorruptItem):
        ViewState.decode(EVERYTHING, blob)


def test_an_item_of_a_later_codec_is_corrupt_and_not_a_crash():
    """After a roll-back the table holds items of the newer release, which may have more members."""
    blob = codec.seal([codec.CODEC + 1, EVERYTHING.version, *range(12)])
    with pytest.raises(CorruptItem, match=f"codec {codec.CODEC + 1}"):
        ViewState.decode(EVERYTHING, blob)


@given(place=st.integers(0), flip=st.integers(1, 255))
def test_a_flipped_byte_never_passes_the_checksum(place, flip):
    blob = bytearray(_SAMPLE)
    blob[place % len(blob)] ^= flip
    with pytest.raises(CorruptItem):
        ViewState.decode(EVERYTHING, bytes(blob))


_SAMPLE = state_after(EVERYTHING, [event(f"e{n}", NOW - n * HOUR, amount=n) for n in range(40)]).encode()


def test_another_definition_does_not_read_the_item():
    with pytest.raises(CorruptItem, match="definition"):
        ViewState.decode(view_of(["1h"]), _SAMPLE)


def test_ids_are_kept_as_64_bits():
    assert -(2**63) <= id_hash("evt_1") < 2**63
    assert id_hash("evt_1") != id_hash("evt_2")
    assert all(RETENTION.event_ids < (view.item_expiry_ms or 0) for view in VIEWS)


@pytest.mark.parametrize(
    "labels", [["1h"], ["10m", "90d"], ["24h", "731d"], ["1h", "lifetime"]], ids="-".join
)
@given(ago=st.integers(0, 800 * DAY), line=st.integers(0, NOW))
def test_out_of_reach_is_what_has_no_tile(labels, ago, line):
    plan = plan_of(view_of(labels))
    reached, at = plan.oldest(line), line - ago
    assert (plan.tile_of(at, line) is None) == (reached is not None and at < reached)


def test_what_is_beyond_every_window_is_left_out_and_told():
    view = view_of(["1h", "24h"])
    state = ViewState.new(view)
    recent, late, void = (
        event("new", NOW, amount=1),
        event("old", NOW - 3 * DAY, amount=9),
        event("in", NOW - DAY),
    )
    state.apply([recent], NOW, DAY)
    before = state.values(NOW + 1)
    applied = state.apply([late, void, replace(late, voided_at=NOW)], NOW, DAY)
    assert [event.dedup_id for event in applied.fresh] == ["in", "old~void"], (
        "a void's own moment decides nothing"
    )
    assert [event.dedup_id for event in applied.too_late] == ["old"]
    assert bits(state.values(NOW + 1)) != bits(before), "the one in the window counts"
    assert not state.answers(NOW - 2 * DAY), (
        "a moment that would have seen the event is not answered without it"
    )
    assert bits(state.values(NOW + 1)) == bits(expected(view, [recent, late, void], KEY, NOW + 1))


def test_too_late_alone_writes_at_most_once():
    view = view_of(["1h"])
    definitions, store = definitions_of(view), MemoryFeatureStore()
    take_in([event("new", NOW, amount=1)], definitions, store)
    for number, n in enumerate([2, 2, 2]):
        outcome = ingest(
            [event(f"old{number}", NOW - 3 * DAY)], definitions, store, FixedClock(NOW), RETENTION
        )
        assert outcome.too_late == {f"old{number}"}
        assert store.items[only_key(view, KEY)].version.n == n


def test_an_erased_entity_starts_anew_and_stays_erased():
    events = [event(f"e{n}", NOW - n * HOUR, amount=n) for n in range(1, 60)]
    for erased_early in (False, True):
        state = ViewState.new(EVERYTHING) if erased_early else state_after(EVERYTHING, events)
        ring = dict(state.ring)
        state.erase(NOW)
        state = ViewState.decode(EVERYTHING, state.encode())
        assert (state.erased_at, state.ring) == (NOW, ring)
        assert not state.present(NOW + DAY)
        late, new = event("late", NOW - 1, amount=1), event("new", NOW, amount=2)
        applied = state.apply([late, new, *events], NOW + 1, 900 * DAY)
        assert [event.id for event in applied.fresh] == ["new"]
        assert len(applied.erased) == (60 if erased_early else 1), (
            "what was applied before is known by its id"
        )
        assert bits(state.values(NOW + 1)) == bits(expected(EVERYTHING, [new], KEY, NOW + 1))
        state.erase(NOW - DAY)
        assert state.erased_at == NOW, "a tombstone never moves back"


def test_the_payload_of_an_erased_entity_is_gone_from_its_bytes():
    state = state_after(EVERYTHING, [event(f"evt_{n}", NOW - n * DAY, amount=987_654_321) for n in range(50)])
    state.erase(NOW)
    assert b"evt_" not in state.encode()
    assert len(state.encode()) < 1_000


@pytest.mark.parametrize("size", [1, 31, 40])
@pytest.mark.parametrize("number", [2, 3])
def test_an_item_of_an_earlier_codec_is_read(size, number):
    """Items that earlier releases wrote are live: seconds alone in the ring; of codec 2 markers as a boolean."""
    state = state_after(EVERYTHING, [event(f"e{n}", NOW - n * HOUR, amount=n) for n in range(size)])
    _, (*members, ring, _, _) = codec.unseal(EVERYTHING, state.encode())
    seconds = [member >> STAMP if place % 2 else member for place, member in enumerate(ring)]
    flags = state.markers if number == 2 else 2 * state.base.folded
    blob = codec.seal([number, EVERYTHING.version, *members, seconds, flags])
    state.since = 0
    state.ring = {key: stamp >> STAMP << STAMP for key, stamp in state.ring.items()}
    assert ViewState.decode(EVERYTHING, blob) == state, "all but fingerprints and birth"
    assert len(state.encode()) <= len(blob) + 1 + 4 * len(state.ring), (
        "an ordinary item has grown by 4 bytes an id"
    )


def test_voids_of_an_item_of_codec_3_wait_where_their_event_is_raw_and_else_make_it_stale():
    state = state_after(EVERYTHING, [event(f"e{n}", NOW - n * HOUR, amount=n) for n in range(40)])
    _, (*members, _, _, _) = codec.unseal(EVERYTHING, state.encode())
    for name, stale in (("e3", False), ("e39", True)):
        void = [NOW, *row_of(name)]
        item = ViewState.decode(
            EVERYTHING, codec.seal([3, EVERYTHING.version, *members, [], 2, [void], None])
        )
        assert item.stale is stale
        assert item.base.voids.waiting == ({} if stale else {"e3": NOW})


def row_of(name):
    """The raw row of an event of this id."""
    return state_after(EVERYTHING, [event(name, NOW, amount=1)]).base.head[0]


def test_flags_survive_the_codec():
    for flag in ("markers", "folded", "stale", "filled"):
        state = ViewState.new(EVERYTHING)
        setattr(state.base if flag in {"folded", "stale"} else state, flag, True)
        assert ViewState.decode(EVERYTHING, state.encode()) == state
