"""Clocks that disagree make no view unavailable that is read live. All of it: `python -m benchmarks clocks`."""

import pytest

from benchmarks.clocks import CROWD, LIVE, ReadCounts, Scenario, daily, live, loaded
from candor.clock import DAY, MINUTE, SECOND
from candor.edge import messages


def briefly(scenario: Scenario) -> ReadCounts:
    return live(scenario, length=6 * SECOND, reads=100, compare=3)


@pytest.mark.parametrize("scenario", LIVE, ids=lambda scenario: scenario.name)
def test_views_that_are_read_live_are_answered_and_exact(scenario):
    tally = briefly(scenario)
    assert tally.reads >= 100
    assert tally.unavailable <= 0.01 * tally.reads
    assert tally.compared > 0
    assert tally.different == 0


def test_without_the_wait_for_its_moment_a_producer_ahead_moves_items_past_the_scorer(monkeypatch):
    monkeypatch.setattr(messages, "EARLY_MS", MINUTE)
    [scenario] = [scenario for scenario in LIVE if scenario.name.startswith("5 events/s")]
    assert briefly(scenario).unavailable > 0.5 * briefly(scenario).reads


def test_a_crowd_that_is_not_declared_hot_is_unavailable_and_never_wrong():
    tally = briefly(CROWD)
    assert tally.unavailable > 0.5 * tally.reads
    assert tally.different == 0


@pytest.mark.parametrize(
    ("events", "back", "answered"),
    [(32, 2 * DAY, True), (33, 2 * DAY, False), (33, 6 * MINUTE, False), (33, 5 * MINUTE, True)],
)
def test_earlier_moments_are_answered_until_something_is_folded(events, back, answered):
    assert daily(events, back) is answered


def test_loaded_history_is_answered_as_of_with_the_oracles_values():
    online, as_of = loaded(events=120, compare=10)
    assert online.unavailable > 0.5 * online.reads
    assert (as_of.reads, as_of.unavailable, as_of.compared, as_of.different) == (360, 0, 30, 0)
