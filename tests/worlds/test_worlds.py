"""Online features equal as-of features and an independent oracle; an oracle that is wrong is noticed."""

import json

import pytest
from msgspec.structs import replace

from tests.worlds import __main__ as command
from tests.worlds import oracle
from tests.worlds.plan import draw
from tests.worlds.world import Difference, Result, live, live_seed

CHUNKS = [range(first, first + 15) for first in range(0, 60, 15)]


@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_online_features_equal_those_of_the_archive_and_of_the_oracle(seeds):
    results = [live_seed(seed) for seed in seeds]

    assert [difference for result in results for difference in result.differences] == []
    assert sum(result.counts["values online"] for result in results) > 3_000
    assert sum(result.counts["items ever stale"] for result in results) > 0
    assert sum(result.counts["healings"] for result in results) > 0


def void_at_once(arrived):
    return [event if event.voided_at is None else replace(event, voided_at=0) for event in arrived]


def latest_copy(arrived):
    return list(reversed(arrived))


def ties_by_arrival(arrived):
    numbers = {}
    return [replace(event, id=f"{numbers.setdefault(event.id, len(numbers)):06}") for event in arrived]


def without_voids(arrived):
    return [event for event in arrived if event.voided_at is None]


@pytest.mark.parametrize("misread", [void_at_once, latest_copy, ties_by_arrival, without_voids])
def test_an_oracle_that_misreads_its_events_is_noticed(misread):
    def wrong(view, arrived, token, q):
        return oracle.answer(view, misread(arrived), token, q)

    differences = [difference for seed in range(8) for difference in live(draw(seed), wrong).differences]

    assert {"online", "as-of", "as-of as known"} <= {difference.what for difference in differences}


def test_an_oracle_that_counts_an_event_at_its_own_moment_is_noticed():
    def wrong(view, arrived, token, q):
        return oracle.answer(view, arrived, token, q + 1)

    assert "online" in {
        difference.what for seed in range(8) for difference in live(draw(seed), wrong).differences
    }


def test_a_history_that_expires_is_noticed_where_the_oracle_lets_it_live():
    def wrong(view, arrived, token, q):
        return (
            oracle.answer(view, arrived, token, q)
            if not view.expires_after
            else forever(view, arrived, token, q)
        )

    def forever(view, arrived, token, q):
        living = oracle.View(**{**vars(view), "expires_after": "9999d"})
        return oracle.answer(living, arrived, token, q)

    assert "online" in {
        difference.what for seed in range(40) for difference in live(draw(seed), wrong).differences
    }


def test_a_seed_draws_the_same_world_every_time():
    assert draw(7) == draw(7)
    assert live_seed(7) == live_seed(7)


def test_the_command_tells_a_difference_and_how_to_repeat_it(monkeypatch, capsys):
    differing = Result(5, differences=[Difference(5, "online", "v0", "ann", 1, 2, "3.0", "4.0")])
    monkeypatch.setattr(command, "live_seed", lambda seed: differing if seed == 5 else Result(seed))

    assert command.main(["--worlds", "8", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["worlds that differ"] == 1
    assert report["differing"][0]["repeat"] == "python -m tests.worlds --seed 5"
    assert command.main(["--worlds", "8"]) == 1
    assert "python -m tests.worlds --seed 5" in capsys.readouterr().out
    assert command.main(["--seed", "4"]) == 0
    assert "1 of 1 worlds are equal" in capsys.readouterr().out
