"""Items stay within their view's bound, and views whose bound exceeds DynamoDB's limit are refused."""

import random
import re
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from benchmarks.items.weigh import item_bytes
from candor import (
    Count,
    DecayedSum,
    Definitions,
    Distinct,
    EventType,
    FeatureView,
    Last,
    LastK,
    Money,
    RateOfChange,
    Ratio,
    Sum,
    Text,
)
from candor.clock import DAY, SECOND
from candor.contracts import MAX_AMOUNT, Event
from candor.errors import DefinitionError, InvalidInput
from candor.features import size
from candor.features.aggregations import MOST_ID_BYTES, Aggregation
from candor.features.event_types import MAX_SKEW
from candor.features.plan import plan_of
from candor.features.size import LARGEST_ITEM, most_bytes
from candor.features.state import ViewState
from candor.features.vector import Read, Version
from candor.features.windows import LONGEST
from candor.store.protocol import MARKERS_PER_COMMIT
from candor.updates import prepare
from tests.builders import NOW, RETENTION, all_aggregations, customer, event, failed, paid

BUSY = 140
"""Events in every tile: more than the default `exact` of a distinct count."""

AGEING = [DecayedSum("amount", "2d"), DecayedSum("amount", "14d"), RateOfChange(Sum("amount"), "7d")]
VIEWS = {
    "everything": FeatureView(
        "busy", customer, [paid, failed], all_aggregations(), ["10m", "7d", "lifetime"]
    ),
    "long": FeatureView(
        "long", customer, [paid, failed], [Distinct("amount"), Last("amount")], ["1m", "90d", "731d"]
    ),
    "ageing": FeatureView("ageing", customer, [paid, failed], AGEING, ["14d", "28d"]),
    "exact": FeatureView("exact", customer, [paid, failed], [Distinct("amount", exact=1_024)], ["24h"]),
    "plain": FeatureView("plain", customer, [paid, failed], [Count()], ["1h", "24h", "365d"]),
}


def dense(view: FeatureView, rng: random.Random, busy: int = BUSY) -> list[Event]:
    """Worst case: every tile full of different extreme amounts, with ids of maximal length."""
    line = NOW - MAX_SKEW
    starts = {
        tile[0]
        for length, reach in plan_of(view).levels
        for back in range(0, reach + 2 * length, length)
        if (tile := plan_of(view).tile_of(line - 1 - back, line)) is not None
    }
    events = [
        _event(number, start + rng.randrange(10 * SECOND), rng)
        for number, start in enumerate(sorted(starts) * busy)
    ]
    events += [_event(len(events) + n, NOW - rng.randrange(MAX_SKEW), rng) for n in range(4 * size.MOST_RAW)]
    return sorted(events, key=lambda event: event.occurred_at)


def _event(number: int, at: int, rng: random.Random) -> Event:
    name = f"{number:08}".ljust(MOST_ID_BYTES, '"')
    amount = rng.choice([-1, 1]) * (MAX_AMOUNT - number)
    return event(name, at, type=rng.choice([paid, failed]).name, amount=amount, kind=f"kind {number}")


def committed(view: FeatureView, state: ViewState, events: Sequence[Event]) -> int:
    """Bytes of the item that a commit of these events writes."""
    read = Read("present", state.encode(), Version(NOW * 1_000_000, 10**6))
    key = view.item_keys("€" * 128)[0]
    commit = prepare(view, key, read, events, NOW, RETENTION).commit
    assert commit is not None
    return item_bytes(commit)


@pytest.mark.slow
@pytest.mark.parametrize("name", VIEWS)
def test_no_traffic_outgrows_the_bound(name):
    view, rng = VIEWS[name], random.Random(1)
    events = dense(view, rng, 1_000 if name == "exact" else BUSY)
    known = events[: size.RING_IDS]
    strangers = [_event(10**6 + number, NOW, rng) for number in range(size.MOST_VOIDS)]
    voids = [
        replace(event, voided_at=NOW)
        for event in [*known[-size.MOST_VOIDS :], *events[-3 * size.MOST_VOIDS :], *strangers]
    ]
    state = ViewState.new(view)
    state.apply(events[: size.RING_IDS], NOW, RETENTION.event_ids)
    state.apply(events[size.RING_IDS : -MARKERS_PER_COMMIT], NOW, RETENTION.event_ids)
    assert (len(state.ring), len(state.base.head)) == (size.RING_IDS, size.MOST_RAW)
    state.apply(voids, NOW, RETENTION.event_ids)
    stored_bytes = committed(view, state, events[-MARKERS_PER_COMMIT:])
    assert 0.6 * most_bytes(view, MAX_SKEW) < stored_bytes <= most_bytes(view, MAX_SKEW), (
        "a bound, and none that is far away"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", VIEWS)
def test_no_level_holds_more_tiles_than_said(name):
    view = VIEWS[name]
    state = ViewState.new(view)
    state.apply(dense(view, random.Random(2)), NOW, RETENTION.event_ids)
    for later in range(0, 40 * DAY, 7 * DAY + 977):
        state.apply([_event(10**7 + later, NOW + later, random.Random(3))], NOW + later, DAY)
        standing = [length or LONGEST for _, length in [*state.base.tiles, *state.base.singles]]
        assert all(standing.count(length) <= most for length, most in plan_of(view).most_tiles(MAX_SKEW))


def test_a_commit_writes_no_more_ids_than_there_is_room_for():
    assert size.LARGEST_IDS >= MARKERS_PER_COMMIT * (MOST_ID_BYTES * 2 + 8)


def test_a_view_that_could_outgrow_dynamodb_is_refused_with_the_remedy():
    free = EventType("payment.succeeded", [customer], {"amount": Money(), "method": Text()})
    bound = EventType(
        "payment.succeeded", [customer], {"amount": Money(), "method": Text(of=["card", "bank"])}
    )

    def declared(kind: EventType, windows: Sequence[str]) -> Definitions:
        counts = [Distinct("method"), Distinct("method", exact=64, name="about"), Last("amount")]
        view = FeatureView("payments", customer, [kind], counts, windows)
        return Definitions(entities=[customer], events=[kind], views=[view])

    years = ["1h", "24h", "7d", "90d", "365d"]
    with pytest.raises(
        DefinitionError, match=r'"payments".*may grow to .* fewer or shorter windows.*Text\(of='
    ):
        declared(free, years)
    assert most_bytes(declared(free, years[:2]).views[0], MAX_SKEW) <= LARGEST_ITEM
    assert most_bytes(declared(bound, years).views[0], MAX_SKEW) <= LARGEST_ITEM


METHOD = EventType("payment.succeeded", [customer], {"method": Text(), "amount": Money()})


def alone(aggregations: Sequence[Aggregation], windows: Sequence[str]) -> Definitions:
    view = FeatureView("methods", customer, [METHOD], aggregations, windows)
    return Definitions(entities=[customer], events=[METHOD], views=[view])


@pytest.mark.parametrize("windows", [["1h"], ["90d"], ["1h", "24h", "7d"]], ids=str)
@pytest.mark.parametrize(
    "declared",
    [
        lambda exact: [Distinct("method", exact=exact)],
        lambda exact: [Ratio(Distinct("method", exact=exact), Count())],
        lambda exact: [
            Distinct("method", exact=exact),
            Distinct("amount", exact=min(exact, 150)),
            Last("amount"),
        ],
    ],
    ids=["one", "ratio", "two"],
)
def test_who_asks_for_too_many_exact_values_is_told_how_many_fit(declared, windows):
    with pytest.raises(DefinitionError, match="lower exact=") as refused:
        alone(declared(1_024), windows)
    most = int(re.search(r"exact= of its distinct counts to (\d+),", str(refused.value))[1])
    alone(declared(most), windows)
    with pytest.raises(DefinitionError, match=f"to {most},"):
        alone(declared(most + 1), windows)


@pytest.mark.parametrize("windows", [["24h"], ["7d"], ["30d"], ["730d"], ["lifetime"]], ids=str)
def test_one_distinct_count_over_few_tiles_may_be_exact_to_the_very_most(windows):
    definitions = alone([Distinct("method", exact=1_024)], windows)
    assert most_bytes(definitions.views[0], MAX_SKEW) <= LARGEST_ITEM


def test_what_is_too_large_without_distinct_counts_is_told_nothing_of_them():
    with pytest.raises(DefinitionError, match="an item may grow") as refused:
        alone([LastK(Sum("amount"), k) for k in range(8, 17)], ["1h", "90d", "365d"])
    assert "exact=" not in str(refused.value)


def test_what_the_bound_stands_on_is_checked_of_every_event():
    kind = EventType("payment.succeeded", [customer], {"method": Text(of=["card", "bank"])})
    view = FeatureView("payments", customer, [kind], [Count()], ["1h"])
    definitions = Definitions(entities=[customer], events=[kind], views=[view])
    definitions.check_event(event("i" * MOST_ID_BYTES, NOW, method="card"), NOW)
    for name in ("€" * 22, "two\nlines"):
        with pytest.raises(InvalidInput) as refused:
            definitions.check_event(event(name, NOW, method="card"), NOW)
        assert refused.value.field == "event_id"
    with pytest.raises(InvalidInput) as refused:
        definitions.check_event(event("i", NOW, method="cash"), NOW)
    assert refused.value.field == "data.method"


def test_in_a_crowd_the_moments_of_what_was_folded_are_not_answered():
    view = VIEWS["plain"]
    events = [event(f"e{n:03}", NOW + n // 2) for n in range(3 * size.MOST_RAW)]
    state = ViewState.new(view)
    random.Random(4).shuffle(events)
    for arrived in events:
        state.apply([arrived], NOW, DAY)
    assert len(state.base.head) == size.MOST_RAW
    first = state.base.head[0][0]
    assert [state.answers(q) for q in (first, first + 1)] == [False, True]
    for q in range(first + 1, NOW + 2 * size.MOST_RAW):
        assert state.values(q)[0] == sum(event.occurred_at < q for event in events)
    together = ViewState.new(view)
    together.apply(events, NOW, DAY)
    assert (together.base.head, together.base.tiles) == (state.base.head, state.base.tiles), (
        "whatever the batches"
    )
