import math
import random

import polars as pl
import pyarrow as pa
import pytest
from msgspec.structs import replace

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
from candor.online import MemoryFeatureStore, OnlineFeatures, Retention, ingest, online_features
from history.offline import begin_healing, event_table, heal, historical_features

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


def test_what_became_known_later_counts_where_all_knowledge_is_asked_for():
    paid = Event(
        "p", PAYMENT.name, NOW - DAY, {"card": "c1", "terminal": "t1"}, {"amount": 1, "country": "A"}
    )
    events = event_table(DEFINITIONS, [replace(paid, known_at=NOW + HOUR)])
    row = pl.DataFrame([{"q": NOW, **paid.entities}])

    counts = [
        historical_features(DEFINITIONS, events, row, knowledge=knowledge)["cards.count.7d"].item()
        for knowledge in ("at_moment", "ever")
    ]

    assert counts == [0.0, 1.0]


class Stale:
    """An item that a void of a folded event left stale, and all that is needed to heal it."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryFeatureStore(), FixedClock(NOW)
        spread = [
            Event(f"p{number}", PAYMENT.name, NOW - number * HOUR, {"card": "c1", "terminal": "t1"}, data)
            for number, data in enumerate(
                [{"amount": 10 + number, "country": "A"} for number in range(1, 100)], 1
            )
        ]
        self.events = [*spread, spread[-1].void(NOW - 1)]
        self.keys = self.apply(self.events)

    def apply(self, events: list[Event]) -> frozenset[str]:
        outcome = ingest(events, DEFINITIONS, self.store, self.clock, Retention(event_ids=14 * DAY))
        return outcome.stale

    def read(self) -> OnlineFeatures:
        return online_features(DEFINITIONS, self.store, {"card": "c1", "terminal": "t1"}, NOW + HOUR)

    def offline(self) -> dict[str, float]:
        row = pl.DataFrame([{"q": NOW + HOUR, "card": "c1", "terminal": "t1"}])
        return (
            historical_features(DEFINITIONS, event_table(DEFINITIONS, self.events), row)
            .drop("q", "card", "terminal")
            .to_dicts()[0]
        )


def test_a_stale_item_is_exact_once_it_is_healed():
    stale = Stale()
    assert stale.read().states["cards"] == "stale"
    assert stale.read().values != stale.offline()

    still = heal(stale.keys, stale.events, DEFINITIONS, stale.store, stale.clock)

    assert still == frozenset()
    assert stale.read().states["cards"] == "present"
    assert stale.read().values == stale.offline()


def test_what_comes_while_an_item_is_healed_is_kept_apart_and_counts_once():
    stale = Stale()
    held = list(stale.events)

    assert begin_healing(stale.keys, DEFINITIONS, stale.store, stale.clock) == stale.keys
    later = Event(
        "later", PAYMENT.name, NOW - 5, {"card": "c1", "terminal": "t1"}, {"amount": 7, "country": "B"}
    )
    stale.events.append(later)
    stale.apply([later])
    still = heal(stale.keys, held, DEFINITIONS, stale.store, stale.clock)

    assert still == frozenset()
    assert stale.read().states["cards"] == "present"
    assert stale.read().values == stale.offline()


def test_a_void_that_comes_while_an_item_is_healed_leaves_it_stale_for_the_next_healing():
    stale = Stale()
    held = list(stale.events)
    begin_healing(stale.keys, DEFINITIONS, stale.store, stale.clock)
    void = held[80].void(NOW - 1)
    stale.events.append(void)
    stale.apply([void])

    still = heal(stale.keys, held, DEFINITIONS, stale.store, stale.clock)
    assert still == stale.keys
    assert heal(still, stale.events, DEFINITIONS, stale.store, stale.clock) == frozenset()
    assert stale.read().states["cards"] == "present"
    assert stale.read().values == stale.offline()


def test_an_exact_item_and_a_key_of_nothing_are_left_alone():
    stale = Stale()
    heal(stale.keys, stale.events, DEFINITIONS, stale.store, stale.clock)
    before = dict(stale.store.items)

    assert (
        heal([*stale.keys, "cards@00000000#c1"], stale.events, DEFINITIONS, stale.store, stale.clock)
        == frozenset()
    )
    assert stale.store.items == before


def test_an_event_that_a_forgotten_void_named_counts_no_more_though_it_comes_while_the_item_is_healed():
    store, clock = MemoryFeatureStore(), FixedClock(NOW)
    entities, data = {"card": "c1", "terminal": "t1"}, {"amount": 7, "country": "A"}
    named = [
        Event(f"p{number}", PAYMENT.name, NOW - DAY + number * HOUR // 4, entities, data)
        for number in range(25)
    ]
    first = replace(named[0], id="first", occurred_at=NOW - 2 * DAY)
    events = [first, *(event.void(event.occurred_at) for event in named), replace(first, id="second")]

    stale: frozenset[str] = frozenset()
    for event in events:
        stale |= ingest([event], DEFINITIONS, store, clock, Retention(event_ids=14 * DAY)).stale
    assert stale
    begin_healing(stale, DEFINITIONS, store, clock)
    held = list(events)
    events.append(named[0])
    ingest(events[-1:], DEFINITIONS, store, clock, Retention(event_ids=14 * DAY))

    assert heal(stale, held, DEFINITIONS, store, clock) == stale
    assert heal(stale, events, DEFINITIONS, store, clock) == frozenset()
    features = online_features(DEFINITIONS, store, entities, NOW + HOUR)
    row = pl.DataFrame([{"q": NOW + HOUR, **entities}])
    (offline,) = historical_features(DEFINITIONS, event_table(DEFINITIONS, events), row).to_dicts()
    assert features.states["cards"] == "present"
    assert {name: repr(offline[name]) for name in features.values} == {
        name: repr(value) for name, value in features.values.items()
    }
