"""Late events and voids in dense histories, against the naive oracle, with any batch size of copies."""

from __future__ import annotations

import random
from collections.abc import Sequence
from unittest.mock import patch

import polars as pl
import pytest
from msgspec.structs import replace

from candor import Count, DecayedSum, Definitions, Distinct, FeatureView, RateOfChange, Sum
from candor.clock import DAY, HOUR, MINUTE
from candor.contracts import Event
from candor.features.aggregations import Aggregation
from history.asof import ranges
from history.asof.bitemporal import counted_streams
from history.asof.events import event_table, query_table
from history.asof.point_in_time import earliest_of, point_in_time
from history.asof.stream import view_stream
from simulation import oracle
from tests.builders import NOW, all_aggregations, bits, customer, definitions_of, event, failed, paid
from tests.history.test_parity import query_at

AGEING: list[Aggregation] = [
    DecayedSum("amount", half_life="2d"),
    RateOfChange(Count(), "7d"),
    RateOfChange(Sum("amount"), "7d"),
]
SPAN = 40 * DAY


def view_over(windows: Sequence[str]) -> FeatureView:
    aggregations = [*all_aggregations(), Distinct("amount", exact=9, name="many")]
    aggregations += AGEING if windows == ["14d", "28d"] else []
    return FeatureView("payments", customer, [paid, failed], aggregations, windows)


def moment(rng: random.Random) -> int:
    """Draw one of a few moments, so that many coincide."""
    return NOW - rng.randrange(SPAN // HOUR) * HOUR


def history(rng: random.Random, count: int, late: list[int]) -> list[Event]:
    """Return shuffled events of two customers: a third late, a tenth voided, some duplicated."""
    events = []
    for number in range(count):
        at = moment(rng)
        entities = {"customer": f"customer_{rng.randrange(2)}"}
        data = {"amount": rng.choice([rng.randrange(99), 10**12]), "kind": rng.choice("abcd")}
        kind = rng.choice(["payment.succeeded", "payment.failed"])
        new = event(f"e{number}", at, type=kind, entities=entities, **data)
        events.append(replace(new, known_at=at + rng.choice(late)) if rng.random() < 0.4 else new)
        if rng.random() < 0.1:
            voided_at = at + rng.randrange(SPAN // HOUR) * HOUR
            events.append(replace(new, voided_at=voided_at, known_at=voided_at + rng.choice(late)))
    copies = [
        replace(original, known_at=original.moment + rng.choice(late))
        for original in rng.sample(events, count // 9)
    ]
    events += copies
    rng.shuffle(events)
    return events


LATE = {"seconds": [1, 2_000], "days": [0, MINUTE, 9 * HOUR, DAY, 12 * DAY], "anything": [-DAY, 0, 3 * SPAN]}


@pytest.mark.parametrize("windows", [["1h", "7d"], ["14d", "28d"], ["24h", "lifetime"]], ids="-".join)
@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("at_a_time", [1, 70, ranges.AT_A_TIME])
def test_dense_histories_equal_the_oracle(windows, late, at_a_time):
    view = view_over(windows)
    definitions = definitions_of(view)
    rng = random.Random(f"{windows} {late}")
    events = history(rng, 200, LATE[late])
    questions = [query_at(row % 3, moment(rng) + rng.choice([0, 1, 2_000, 2_001])) for row in range(60)]
    with patch.object(ranges, "AT_A_TIME", at_a_time):
        table = point_in_time(definitions, events, questions)
    for row, question in enumerate(questions):
        key = str(view.entity.key_of(question.application))
        wanted = oracle.expected(view, events, key, question.q)
        assert bits(table.vector(row)) == bits(wanted), question.row_id


def standing_for(
    events: list[Event], moments: list[int], windows: Sequence[str] = ("lifetime",)
) -> list[tuple]:
    """Return each stream's entity numbers and amounts, and the moments of the queries that it answers."""
    view = FeatureView("payments", customer, [paid, failed], [Sum("amount")], windows)
    definitions = definitions_of(view)
    table = features_table(definitions, events), features_table(definitions, moments)
    stream, questions = view_stream(view, *table, "at_moment", 0)
    streams = counted_streams(stream, questions, earliest_of(view, questions))
    return [
        (
            list(zip(part.code.tolist(), part.column("integer_amount").to_list(), strict=True)),
            answered.q.tolist(),
        )
        for part, answered in streams
    ]


def features_table(definitions: Definitions, rows: list[Event] | list[int]) -> pl.DataFrame:
    if rows and isinstance(rows[0], Event):
        table = event_table(definitions, rows)
    else:
        table = query_table(definitions, [query_at(0, q) for q in rows])
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def happened(number: int, at: int, known_at: int | None = None, voided_at: int | None = None) -> Event:
    new = event(f"e{number}", at, entities={"customer": "customer_0"}, voided_at=voided_at, amount=number)
    return replace(new, known_at=known_at)


def test_what_was_known_before_anybody_asked_is_not_copied():
    events = [happened(n, n * 100, known_at=n * 100 + 60) for n in range(1, 5)]
    assert standing_for(events, [170, 270, 470]) == [([(0, n) for n in range(1, 5)], [170, 270, 470])]


def test_what_nobody_saw_is_left_out_and_not_copied():
    events = [happened(1, 100), happened(1, 100, 200, 150), happened(2, 100, known_at=900), happened(3, 100)]
    assert standing_for(events, [201, 900]) == [([(0, 3)], [201, 900])]


def test_a_void_that_nobody_asked_after_is_nothing():
    events = [happened(1, 100), happened(1, 100, 900, 150)]
    assert standing_for(events, [101, 900]) == [([(0, 1)], [101, 900])]


def test_an_event_counts_up_to_the_moment_of_its_void():
    events = [happened(1, 100), happened(1, 100, voided_at=300), happened(2, 200)]
    assert standing_for(events, [300, 301]) == [([(0, 2)], [301]), ([(0, 2), (1, 1), (1, 2)], [300])]


def test_only_questions_that_differ_are_answered_from_copies_and_those_reach_no_further_back():
    events = [happened(n, n * 100, known_at=950 if n == 7 else None) for n in range(1, 10)]
    plain, copied = standing_for(events, [350, 750, 820, 940, 951])
    assert plain == ([(0, n) for n in range(1, 10)], [350, 951])
    assert copied[1] == [750, 820, 940]
    assert copied[0] == [*plain[0], (1, 8), (1, 9)]


def test_a_change_that_no_window_reaches_touches_nobody():
    late = happened(1, NOW - 3 * DAY, known_at=NOW + DAY)
    void = happened(2, NOW - 3 * DAY, voided_at=NOW - 2 * DAY)
    events = [late, happened(2, NOW - 3 * DAY), void]
    assert standing_for(events, [NOW], ["24h"])[1:] == []
    soon = NOW - 3 * DAY + 1
    assert standing_for(events, [soon, NOW], ["24h"]) == [([(0, 2)], [soon, NOW])]
