import math
import random

import polars as pl
import pyarrow as pa
import pytest

from candor import (
    Count,
    Definitions,
    Delayed,
    Distinct,
    Entity,
    Event,
    EventType,
    FeatureView,
    Max,
    Money,
    OnDemand,
    Sum,
    Text,
)
from candor.clock import DAY, HOUR, FixedClock
from candor.errors import DefinitionError, InvalidInput
from candor.online import MemoryFeatureStore, Retention, ingest, online_features
from history.offline import event_table, historical_features

NOW = 20_000 * DAY
CARD, TERMINAL = Entity("card"), Entity("terminal")
PAYMENT = EventType("payment", [CARD, TERMINAL], {"amount": Money(), "country": Text()})
SPENDING = [Count(), Sum("amount"), Max("amount"), Distinct("country")]
CARDS = FeatureView("cards", CARD, [PAYMENT], SPENDING, ["24h", "7d"])
RECENT = FeatureView("recent", CARD, [PAYMENT], SPENDING, ["36h"], exact_windows=True, max_events=100)
TERMINALS = FeatureView("terminals", TERMINAL, [PAYMENT], [Count()], [Delayed("7d", delay="3d"), "lifetime"])
DEFINITIONS = Definitions(entities=[CARD, TERMINAL], events=[PAYMENT], views=[CARDS, RECENT, TERMINALS])


def payments(count: int) -> list[Event]:
    rng = random.Random(5)
    return [
        Event(
            f"p{number}",
            PAYMENT.name,
            NOW - rng.randrange(1, 20 * DAY),
            {"card": f"c{rng.randrange(4)}", "terminal": f"t{rng.randrange(3)}"},
            {"amount": rng.randrange(1_000), "country": rng.choice("ABC")},
        )
        for number in range(count)
    ]


def rows(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({"q": [NOW], "card": ["c1"], "terminal": ["t1"], **columns})


def test_a_row_has_the_values_that_are_read_online_at_its_moment():
    events = payments(400)
    events += [event.void(NOW - HOUR) for event in events if NOW - DAY < event.occurred_at < NOW - HOUR]
    store = MemoryFeatureStore()
    ingest(events, DEFINITIONS, store, FixedClock(NOW), Retention(event_ids=14 * DAY))
    named = [{"card": f"c{card}", "terminal": f"t{terminal}"} for card in range(5) for terminal in range(4)]
    queries = pl.DataFrame([{"q": NOW, **entities} for entities in named])

    answered = historical_features(DEFINITIONS, event_table(DEFINITIONS, events), queries).to_dicts()

    for entities, row in zip(named, answered, strict=True):
        features = online_features(DEFINITIONS, store, entities, NOW)
        assert set(features.states.values()) <= {"present", "absent"}
        wanted = {"q": NOW, **entities, **features.values}
        assert list(row) == list(wanted)
        assert repr(row) == repr(wanted)  # NaN equals NaN, and every digit counts


def test_rows_stay_as_they_are_in_their_order_with_their_other_columns():
    events = event_table(DEFINITIONS, payments(50))
    queries = pl.DataFrame(
        {
            "fraud": [True, False, None],
            "q": [NOW, NOW - DAY, NOW],
            "terminal": ["t1", "t9", None],
            "card": ["c1"] * 3,
        }
    )

    answered = historical_features(DEFINITIONS, events, queries)

    assert answered.columns == [*queries.columns, *DEFINITIONS.features]
    assert answered.select(queries.columns).equals(queries)
    assert answered["terminals.count.lifetime"].to_list()[1:] == [0.0, 0.0]
    assert answered["terminals.count.lifetime"][0] > 0


def test_tables_of_arrow_are_answered_as_frames_are():
    events, queries = event_table(DEFINITIONS, payments(50)), rows(amount=[3])

    of_arrow = historical_features(DEFINITIONS, events, queries.to_arrow())
    of_frames = historical_features(DEFINITIONS, pl.DataFrame(events), queries)

    assert isinstance(events, pa.Table)
    assert of_arrow.equals(of_frames)


def test_no_rows_give_no_rows_with_all_columns():
    answered = historical_features(DEFINITIONS, event_table(DEFINITIONS, []), rows().clear())

    assert (answered.height, answered.columns) == (0, ["q", "card", "terminal", *DEFINITIONS.features])


def test_without_events_every_window_is_empty():
    (answered,) = historical_features(DEFINITIONS, event_table(DEFINITIONS, []), rows()).to_dicts()

    assert (answered["cards.count.7d"], answered["terminals.count.lifetime"]) == (0.0, 0.0)
    assert math.isnan(answered["cards.max_amount.7d"])


@pytest.mark.parametrize(
    ("queries", "error"),
    [
        (rows().drop("card"), r"missing_field: .* \(card\)"),
        (rows().drop("q"), r"missing_field: .* \(q\)"),
        (rows(q=[None]), r"invalid_timestamp: .* \(q\)"),
        (rows(q=[NOW + 0.5]), r"invalid_timestamp: .* \(q\)"),
        (rows().with_columns(pl.from_epoch("q", "ms")), r"invalid_timestamp: .* \(q\)"),
        (rows(card=[17]), r"invalid_field: Expected a column of text\. \(card\)"),
        (rows(**{"cards.count.7d": [1]}), r"invalid_field: .* \(cards\.count\.7d\)"),
    ],
)
def test_a_column_that_does_not_say_of_whom_and_of_when_is_refused(queries, error):
    with pytest.raises(InvalidInput, match=error):
        historical_features(DEFINITIONS, event_table(DEFINITIONS, []), queries)


def test_features_of_a_checkout_are_refused():
    declared = Definitions(
        entities=[CARD, TERMINAL],
        events=[PAYMENT],
        views=[CARDS],
        on_demand=[OnDemand("total", lambda checkout, features: checkout.total)],
    )
    with pytest.raises(DefinitionError, match="computed from a checkout"):
        historical_features(declared, event_table(declared, []), rows())
