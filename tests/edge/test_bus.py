"""A request's events become bus entries, all or none."""

from __future__ import annotations

import json

import pytest

from candor.clock import FixedClock, format_rfc3339
from candor.edge.bus import ENTRIES_PER_CALL, entries_of, put
from candor.errors import InvalidInput, StoreUnavailable
from tests.decide.lending import DEFINITIONS, NOW

CLOCK = FixedClock(NOW)


def event(number: int = 1, **changes) -> dict:
    return {
        "event_id": f"evt_{number}",
        "type": "payment.succeeded",
        "occurred_at": format_rfc3339(NOW - number),
        "entities": {"customer": "ann"},
        "data": {"amount": 100, "note": "é"},
    } | changes


def entries(*events, raw: bytes | None = None) -> list[dict]:
    content = json.dumps({"events": events}).encode() if raw is None else raw
    return entries_of(content, DEFINITIONS, CLOCK, "bus-1")


def refusal(*events, raw: bytes | None = None) -> tuple[str, str | None]:
    with pytest.raises(InvalidInput) as refused:
        entries(*events, raw=raw)
    return refused.value.code, refused.value.field


class Bus:
    """Fake `put_events`, in which the entries named `bad` fail a given number of times."""

    def __init__(self, **bad: int) -> None:
        self.bad = bad
        self.calls: list[list[str]] = []
        self.held: list[str] = []

    def put_events(self, *, Entries):  # noqa: N803 - boto3's own name
        names = [json.loads(entry["Detail"])["event_id"] for entry in Entries]
        self.calls.append(names)
        return {"Entries": [self._answer(name) for name in names]}

    def _answer(self, name: str) -> dict:
        if self.bad.get(name, 0) > 0:
            self.bad[name] -= 1
            return {"ErrorCode": "InternalFailure"}
        self.held.append(name)
        return {"EventId": name}


def test_an_entry_carries_the_event_as_it_was_sent():
    (entry,) = entries(event())
    assert (entry["Source"], entry["DetailType"], entry["EventBusName"]) == (
        "candor.lender",
        "payment.succeeded",
        "bus-1",
    )
    assert json.loads(entry["Detail"]) == event()


def test_a_caller_of_the_api_cannot_say_when_an_event_became_known():
    known_at = format_rfc3339(NOW - 10)
    assert refusal(event(), event(2, known_at=known_at)) == ("invalid_field", "events[1].known_at")


def test_a_hundred_are_taken_and_not_one_more():
    assert len(entries(*[event(n) for n in range(100)])) == 100
    assert refusal(*[event(n) for n in range(101)]) == ("invalid_field", "events")
    assert refusal() == ("invalid_field", "events")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b'{"events":',
        b'{"events":{}}',
        b'{"event":[]}',
        b'{"events":' + b"[" * 100_000,
    ],
)
def test_what_is_no_list_of_events_is_malformed(raw):
    assert refusal(raw=raw) == ("malformed_json", None)


BAD = {
    "no event": (7, "invalid_field", ""),
    "unknown type": (event(type="payment.lost"), "unknown_event_type", ".type"),
    "an unknown field": (event(tenant="x"), "invalid_field", ".tenant"),
    "no id": ({k: v for k, v in event().items() if k != "event_id"}, "missing_field", ".event_id"),
    "an empty id": (event(event_id=""), "invalid_field", ".event_id"),
    "an id that reads as a void's": (event(event_id="evt_9~void"), "invalid_field", ".event_id"),
    "an amount in fractions": (event(data={"amount": 1.5}), "invalid_field", ".data.amount"),
    "an amount that is text": (event(data={"amount": "1"}), "invalid_field", ".data.amount"),
    "an amount that is true": (event(data={"amount": True}), "invalid_field", ".data.amount"),
    "an amount out of bounds": (event(data={"amount": 10**12 + 1}), "out_of_range", ".data.amount"),
    "no amount": (event(data={}), "missing_field", ".data.amount"),
    "an unknown currency": (
        event(data={"amount": 1, "currency": "usd"}),
        "unknown_currency",
        ".data.currency",
    ),
    "a currency in a list": (
        event(data={"amount": 1, "currency": ["USD"]}),
        "unknown_currency",
        ".data.currency",
    ),
    "a currency that is an object": (
        event(data={"amount": 1, "currency": {}}),
        "unknown_currency",
        ".data.currency",
    ),
    "nobody": (event(entities={}), "missing_entity", ".entities"),
    "an entity without a name": (event(entities={"": "x"}), "invalid_field", ".entities"),
    "a date without offset": (event(occurred_at="2026-01-01T00:00:00"), "invalid_timestamp", ".occurred_at"),
    "before 1970": (event(occurred_at="1969-12-31T23:59:59Z"), "invalid_timestamp", ".occurred_at"),
    "the future": (event(occurred_at=format_rfc3339(NOW + 300_001)), "occurred_in_future", ".occurred_at"),
    "another schema": (event(schema_version=2), "unknown_schema_version", ".schema_version"),
}


@pytest.mark.parametrize(("bad", "code", "field"), BAD.values(), ids=BAD)
def test_one_bad_event_refuses_all_and_is_named(bad, code, field):
    assert refusal(event(1), event(2), bad, event(4)) == (code, f"events[2]{field}")


def test_every_fault_of_every_event_is_listed():
    with pytest.raises(InvalidInput) as caught:
        entries(
            event(1),
            event(
                2, occurred_at="soon", voided_at="2026-01-01T00:00:00", data={"currency": "usd"}, tenant="x"
            ),
            7,
            event(event_id="evt_9~void", type="payment.lost", entities={}, schema_version=2),
            event(5, occurred_at=format_rfc3339(NOW + 300_001), entities={"customer": ""}),
        )
    first, faults = caught.value, caught.value.faults
    assert (first.code, first.field) == (faults[0].code, faults[0].field)
    assert [(fault.code, fault.field.removeprefix("events")) for fault in faults] == [
        ("invalid_field", "[1].tenant"),
        ("invalid_timestamp", "[1].occurred_at"),
        ("invalid_timestamp", "[1].voided_at"),
        ("missing_field", "[1].data.amount"),
        ("unknown_currency", "[1].data.currency"),
        ("invalid_field", "[2]"),
        ("unknown_schema_version", "[3].schema_version"),
        ("unknown_event_type", "[3].type"),
        ("invalid_field", "[3].event_id"),
        ("invalid_field", "[4].entities[...]"),
        ("occurred_in_future", "[4].occurred_at"),
    ]


def test_a_hundred_faults_are_listed_and_no_more():
    with pytest.raises(InvalidInput) as caught:
        entries(*[event(n, type=7, entities=7) for n in range(60)])
    assert len(caught.value.faults) == 100


def test_entries_travel_in_pages_of_ten_in_order():
    bus = Bus()
    put(bus.put_events, entries(*[event(n) for n in range(25)]))
    assert [len(call) for call in bus.calls] == [ENTRIES_PER_CALL, ENTRIES_PER_CALL, 5]
    assert bus.held == [f"evt_{n}" for n in range(25)]


def test_what_the_bus_failed_is_sent_again_and_nothing_else():
    bus = Bus(evt_3=1, evt_12=2)
    put(bus.put_events, entries(*[event(n) for n in range(15)]))
    assert bus.calls[1:] == [["evt_3"], [f"evt_{n}" for n in range(10, 15)], ["evt_12"], ["evt_12"]]
    assert sorted(bus.held) == sorted(f"evt_{n}" for n in range(15))


def test_a_bus_that_keeps_failing_an_event_is_unavailable():
    bus = Bus(evt_1=99)
    with pytest.raises(StoreUnavailable, match="refused 1 events"):
        put(bus.put_events, entries(event(0), event(1)))
    assert bus.calls == [["evt_0", "evt_1"], ["evt_1"], ["evt_1"]]
