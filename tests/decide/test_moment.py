"""The moment of a decision: the scorer's clock after the read, or the replay clock; never the caller's claim alone."""

from __future__ import annotations

import json

import pytest

from candor.clock import DAY, HOUR, SECOND, FixedClock, format_rfc3339
from candor.errors import InvalidInput
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from tests.decide.lending import DEFINITIONS, NOW, RETENTION_DAYS, SAFE, Till, champion, happened, take_in

SKEW = DEFINITIONS.max_future_skew_ms


def value(record: dict, feature: str) -> float | None:
    return record["vector"]["values"][DEFINITIONS.features.index(feature)]


class SlowRead(MemoryDecisionStore):
    """A read during which time passes, and an event arrives."""

    def __init__(self, clock: FixedClock) -> None:
        super().__init__(MemoryFeatureStore(), champion().sha)
        self.clock = clock

    def read(self, keys, timeout_s, synchronous=()):
        self.clock.advance(50)
        take_in(self.features, happened("during", NOW + 40))
        return super().read(keys, timeout_s, synchronous)


def test_live_the_moment_is_taken_after_the_read_so_that_it_counts_what_it_read():
    clock = FixedClock(NOW)
    record = Till(SlowRead(clock), clock=clock).record(total=SAFE)
    assert record["q"] == NOW + 50
    assert value(record, "failed.count.7d") == 1.0


def test_an_event_at_the_very_moment_does_not_count(till):
    take_in(till.store.features, happened("at", NOW), happened("before", NOW - 1))
    assert value(till.record(total=SAFE), "failed.count.7d") == 1.0


def test_windows_follow_the_replay_clock(till):
    take_in(till.store.features, *[happened(f"e{day}", NOW - day * DAY) for day in range(1, 21)])
    seen = {
        days: value(till.record(f"k{days}", total=SAFE, replay_at=NOW - days * DAY), "failed.count.7d")
        for days in (0, 5, 19, 20)
    }
    assert seen == {0: 7.0, 5: 7.0, 19: 1.0, 20: 0.0}


def test_a_replayed_moment_is_recorded_as_one_and_expiry_follows_it(till):
    moment = NOW - 400 * DAY
    answer = till.decide(total=SAFE, replay_at=moment)
    stored = till.store.decisions[answer.decision.id]
    record = json.loads(stored.record)
    assert (record["q"], stored.q, record["replay_clock"]) == (moment, moment, True)
    assert json.loads(answer.body)["expires_at"] == format_rfc3339(moment + HOUR)
    assert stored.expires_at == (NOW + RETENTION_DAYS * DAY) // SECOND


def test_before_an_entity_was_seen_it_is_absent(till):
    take_in(till.store.features, happened("e", NOW - DAY))
    assert till.record("a", total=SAFE, replay_at=NOW - 2 * DAY)["vector"]["states"]["failed"] == "absent"
    assert till.record("b", total=SAFE)["vector"]["states"]["failed"] == "present"


@pytest.mark.parametrize("replay_at", [None, NOW - 30 * DAY])
def test_a_checkout_dated_beyond_the_skew_is_refused(till, replay_at):
    now = NOW if replay_at is None else replay_at
    till.decide("a", total=SAFE, replay_at=replay_at, occurred_at=format_rfc3339(now + SKEW))
    till.decide("b", total=SAFE, replay_at=replay_at, occurred_at="1999-01-01T00:00:00+05:30")
    with pytest.raises(InvalidInput) as refused:
        till.decide("c", total=SAFE, replay_at=replay_at, occurred_at=format_rfc3339(now + SKEW + 1))
    assert (refused.value.code, refused.value.field) == ("occurred_in_future", "occurred_at")
    assert len(till.store.decisions) == 2


def test_the_callers_date_moves_no_window(till):
    take_in(till.store.features, happened("e", NOW - HOUR))
    record = till.record(total=SAFE, occurred_at=format_rfc3339(NOW - 100 * DAY))
    assert record["q"] == NOW
    assert value(record, "failed.count.7d") == 1.0


@pytest.mark.parametrize("moment", [None, NOW - 30 * DAY])
def test_the_record_tells_the_scorers_own_time_whatever_clock_decided(till, moment):
    record = till.record(total=SAFE, replay_at=moment)
    assert (record["q"], record["decided_at"]) == (moment or NOW, NOW)
