"""Updater and store are killed all the time while a lender's history is loaded and its checkouts are decided.

The whole system goes on, nothing is lost or counted twice, and every decision is replayed as it was served.
`python -m benchmarks.served_replay --kills --data …` does the same with real data.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import STORE, UPDATER, Killer
from benchmarks.served_replay import is_exact, replay
from tests.system.conftest import Served
from tests.system.contents import Account, Contents
from tests.system.running import Running, adopt_secrets


@dataclass(frozen=True)
class Survived:
    """What a system holds, and what replay says of its decisions, after its parts were killed so many times."""

    killed: dict[str, int]
    contents: Contents
    replayed: dict[str, Any]


@pytest.fixture(scope="module")
def survived(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survived]:
    state: Path = tmp_path_factory.mktemp("killed") / "state"
    adopt_secrets(served.running.state, state)
    running = Running(served.assembly, state, DATA=str(served.data))
    try:
        with Killer(running.process.pid) as killer:
            running.until_ready()
        contents = Account(state).contents()
        found = replay(state) | {"stored": len(contents.records)}
        yield Survived(dict(killer.killed), contents, found)
    finally:
        running.end(signal.SIGINT)


def test_both_were_killed_more_than_once(survived: Survived) -> None:
    assert min(survived.killed[UPDATER], survived.killed[STORE]) > 1


def test_every_decision_is_replayed_as_it_was_served(survived: Survived) -> None:
    assert is_exact(survived.replayed), survived.replayed


def test_nothing_is_lost_or_counted_twice(served: Served, survived: Survived) -> None:
    expected = served.contents.features
    assert survived.contents.features.keys() == expected.keys()
    for key, state in expected.items():
        assert survived.contents.features[key] == state, key


def test_every_checkout_has_the_answer_of_an_undisturbed_run(served: Served, survived: Survived) -> None:
    assert survived.contents.answers == served.contents.answers
    assert set(survived.contents.queued.values()) == {0}
