"""A batch of queue messages: applied, refused for good, or to come again."""

from __future__ import annotations

import json

import pytest

from candor.clock import DAY, FixedClock, format_rfc3339
from candor.edge.messages import Message, ingest_messages
from candor.errors import StoreUnavailable
from candor.features.state import ViewState
from candor.ingest import Retention
from candor.store.memory import MemoryFeatureStore
from tests.decide.lending import DEFINITIONS, NOW

RETENTION = Retention(800 * DAY, 20 * DAY)
FAILED = next(view for view in DEFINITIONS.views if view.name == "failed")


def message(name: str, token: str = "ann", raw: bytes | None = None, **changes) -> Message:
    detail = {
        "event_id": f"evt_{name}",
        "type": "payment.failed",
        "occurred_at": format_rfc3339(NOW - DAY),
        "entities": {"customer": token},
        "data": {},
    } | changes
    envelope = {"version": "0", "source": "candor.lender", "detail": detail, "time": "2027-01-15T08:00:00Z"}
    return Message(name, json.dumps(envelope).encode() if raw is None else raw)


@pytest.fixture
def store() -> MemoryFeatureStore:
    return MemoryFeatureStore()


def take_in(store, *messages):
    return ingest_messages(messages, DEFINITIONS, store, FixedClock(NOW), RETENTION)


def count(store, token: str = "ann") -> float:
    read = store.items.get(FAILED.item_key(token))
    return ViewState.decode(FAILED, read.blob).values(NOW)[0] if read else 0.0


def test_all_are_applied(store):
    outcome = take_in(store, *[message(f"m{n}") for n in range(5)])
    assert (list(outcome.refused), list(outcome.failed)) == ([], [])
    assert count(store) == 5.0


@pytest.mark.parametrize(
    "raw", [b"", b"hello", b"null", b"{}", b'{"detail":7}', b"\xff", b'{"detail":{"type":"\xff"}}']
)
def test_a_message_that_cannot_be_read_is_refused_and_its_neighbours_are_applied(store, raw):
    broken = message("bad", raw=raw)
    outcome = take_in(store, message("m1"), broken, message("m2"))
    assert [refused for refused, _ in outcome.refused] == [broken]
    assert count(store) == 2.0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "unheard.of"}, "unknown_event_type"),
        ({"occurred_at": format_rfc3339(NOW + DAY)}, "occurred_in_future"),
        ({"entities": {}}, "missing_entity"),
        ({"data": {"currency": ["USD"]}}, "unknown_currency"),
        ({"data": {"currency": "XXX"}}, "unknown_currency"),
        ({"a\x00b": 1}, "invalid_field"),
    ],
)
def test_an_event_that_can_never_be_applied_is_refused_with_its_reason(store, changes, code):
    bad = message("bad", **changes)
    outcome = take_in(store, message("m1"), bad, message("m2"))
    ((refused, reason),) = outcome.refused
    assert (refused, reason.code) == (bad, code)
    assert not outcome.failed
    assert count(store) == 2.0


def test_reasons_fit_into_queue_attributes(store):
    outcome = take_in(store, message("bad", **{"a\x00b": 1}), message("worse", **{"x" * 5000: 1}))
    for _, reason in outcome.refused:
        for text in (reason.code, reason.detail, reason.field or "-"):
            assert text.isprintable()
            assert 0 < len(text) < 300


def test_the_same_event_twice_counts_once_in_a_batch_and_across_batches(store):
    take_in(store, message("m1"), message("again", event_id="evt_m1"))
    take_in(store, message("third", event_id="evt_m1"))
    assert count(store) == 1.0


def test_a_store_that_is_away_fails_only_who_needs_it(store):
    away = FAILED.item_key("bob")
    commit = store.commit

    def flaky(wanted):
        if wanted.key == away:
            raise StoreUnavailable("the table is away")
        return commit(wanted)

    store.commit = flaky
    bob = message("bob", token="bob")
    outcome = take_in(store, message("m1"), bob, message("m2"))
    assert [(failed, cause) for failed, cause in outcome.failed] == [(bob, "the table is away")]
    assert not outcome.refused
    assert (count(store), count(store, "bob")) == (2.0, 0.0)
    store.commit = commit
    assert not take_in(store, bob).failed
    assert count(store, "bob") == 1.0


def test_nothing_is_an_empty_batch(store):
    outcome = take_in(store)
    assert (list(outcome.refused), list(outcome.failed)) == ([], [])
