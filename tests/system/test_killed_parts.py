"""Updater and store are killed repeatedly while a lender's history is loaded and its checkouts are decided.

Then again while many merchants post at once and events arrive twice. The system continues, nothing is lost or counted
twice, and every decision is replayed as it was served.
`python -m benchmarks.served_replay --kills --data …` does the same with real data.
"""

import json
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import STORE, UPDATER, Killer
from benchmarks.load import CheckoutAnswer, CheckoutCall, calls_for, check_answers, compare, post_all
from benchmarks.served_replay import called, is_exact, replay
from candor.edge.bus import SOURCE
from demo.sources.base import Event
from demo.sources.simulated import SimulatedLender
from tests.system.conftest import Served
from tests.system.contents import Account, Contents
from tests.system.running import Running, adopt_secrets

pytestmark = pytest.mark.deep

CLIENTS = 16
CHECKOUTS = 300
EVENTS = 1_000
HURRY = (0.2, 0.8)
"""Seconds between two kills of a load that lasts about ten."""
A_CALL = 10
"""Most entries in one call of PutEvents."""


@dataclass(frozen=True)
class Loaded:
    """Answers to many merchants while parts were killed, and the contents of the table before and after."""

    killed: dict[str, int]
    answers: list[CheckoutAnswer]
    before: dict[str, bytes]
    after: dict[str, bytes]


@dataclass(frozen=True)
class Survived:
    """Contents of a system after its parts were killed many times, during the demo and then under load.

    `replayed` is the replay of all decisions, `settled` of those made once all events had arrived: one per customer.
    """

    killed: dict[str, int]
    contents: Contents
    loaded: Loaded
    final: list[CheckoutAnswer]
    stored: int
    archive: set[str]
    replayed: dict[str, Any]
    settled: dict[str, Any]


@pytest.fixture(scope="module")
def survived(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survived]:
    state: Path = tmp_path_factory.mktemp("killed") / "state"
    adopt_secrets(served.running.state, state)
    started: list[Running] = []

    def start() -> Running:
        started.append(Running(served.assembly, state, DATA=str(served.data)))
        return started[-1]

    try:
        running = start()
        with Killer(running.process.pid) as killer:
            running.until_ready()
        contents = Account(state).contents()
        loaded = load(running)
        running.end(signal.SIGTERM)

        running = start().until_ready()  # until then all that was on its way has arrived
        arrived = datetime.now(UTC).isoformat()
        final = post_all(running.door, one_of_each_customer(), CLIENTS)
        running.end(signal.SIGTERM)

        start().until_ready()  # what was buffered for the archive is there
        account = Account(state)
        stored = len(account.items("decisions"))
        replayed = replay(state) | {"stored": stored}
        settled = called("consistency", state, "--since", arrived)
        archive = {event["event_id"] for event in account.archived()}
        yield Survived(dict(killer.killed), contents, loaded, final, stored, archive, replayed, settled)
    finally:
        for each in started:
            if each.process.poll() is None:
                each.end(signal.SIGINT)


def load(running: Running) -> Loaded:
    """Post from many merchants, while events of their customers arrive, each of them twice."""
    account = Account(running.state)
    before = answers_of(account)
    twice = [event for event in history() for _ in range(2)]
    with ThreadPoolExecutor(1) as beside, Killer(running.process.pid, seed=2, pause_s=HURRY) as killer:
        publishing = beside.submit(publish, account, twice)
        answers = post_all(running.door, calls_for(CHECKOUTS, seed=4), CLIENTS, patient=True)
        publishing.result()
    return Loaded(dict(killer.killed), answers, before, answers_of(account))


def history() -> list[Event]:
    """Latest history of the customers whose checkouts `calls_for` gives."""
    return list(SimulatedLender(customers=180).history())[-EVENTS:]


def publish(account: Account, events: Sequence[Event]) -> None:
    client = account.client("events")
    (bus,) = (each["Name"] for each in client.list_event_buses()["EventBuses"] if each["Name"] != "default")
    for start in range(0, len(events), A_CALL):
        entries = [
            {"EventBusName": bus, "Source": SOURCE, "DetailType": event["type"], "Detail": json.dumps(event)}
            for event in events[start : start + A_CALL]
        ]
        assert client.put_events(Entries=entries)["FailedEntryCount"] == 0


def one_of_each_customer() -> list[CheckoutCall]:
    bodies = {
        checkout.body["applicant"]["token"]: checkout.body
        for checkout in SimulatedLender(customers=180).checkouts()
    }
    return [
        CheckoutCall(f"settled-{number}", json.dumps({**body, "checkout_id": f"settled-{number}"}).encode())
        for number, body in enumerate(bodies.values())
    ]


def answers_of(account: Account) -> dict[str, bytes]:
    return {item["pk"]["S"]: bytes(item["a"]["B"]) for item in account.items("decisions")}


def test_both_were_killed_more_than_once(survived: Survived) -> None:
    for killed in (survived.killed, survived.loaded.killed):
        assert min(killed[UPDATER], killed[STORE]) > 1


def test_every_decision_is_replayed_as_it_was_served(survived: Survived) -> None:
    assert is_exact(survived.replayed), survived.replayed
    decisions = len(survived.contents.answers) + CHECKOUTS + len(survived.final)
    assert survived.replayed["decisions"] == decisions == survived.stored


def test_nothing_is_lost_or_counted_twice(served: Served, survived: Survived) -> None:
    expected = served.contents.features
    assert survived.contents.features.keys() == expected.keys()
    for key, state in expected.items():
        assert survived.contents.features[key] == state, key


def test_every_checkout_has_the_answer_of_an_undisturbed_run(served: Served, survived: Survived) -> None:
    assert survived.contents.answers == served.contents.answers
    assert set(survived.contents.queued.values()) == {0}


def test_under_load_a_key_has_one_decision_or_is_told_to_try_again(survived: Survived) -> None:
    loaded = survived.loaded
    verdict = check_answers(loaded.answers)
    assert verdict.broken == []
    assert {status for answer in loaded.answers for status in answer.refused} <= {500, 503}
    assert list(compare(verdict, loaded.before, loaded.after)) == []


def test_what_came_in_under_load_is_in_the_archive(survived: Survived) -> None:
    decided = {json.loads(answer.body)["id"] for answer in survived.loaded.answers + survived.final}
    sent = {event["event_id"] for event in history()}
    assert survived.archive == survived.contents.archive.keys() | sent | decided


def test_when_all_has_arrived_features_equal_the_archive(survived: Survived) -> None:
    """Without lag or lateness, anything lost or counted twice under load would differ here."""
    assert {answer.status for answer in survived.final} == {200}
    assert survived.settled["compared"] == len(survived.final) > 50
    assert survived.settled["causes"] == {}
    assert survived.settled["as_served_mismatches"] == 0
