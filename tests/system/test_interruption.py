"""The demo restarted after every kind of end: nothing lost, nothing counted twice, no process left behind."""

import json
import os
import random
import re
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from candor import decision
from candor.contracts import encode_event
from demo.sources.base import SourceCheckout
from demo.sources.folder import from_folder
from lender import DEFINITIONS
from tests.system.conftest import Served
from tests.system.contents import Account, Contents
from tests.system.running import Ended, Running, adopt_secrets

pytestmark = pytest.mark.deep

rng = random.Random(int(os.environ.get("KILL_SEED", "1")))
"""Moments vary with the machine's load anyway; KILL_SEED varies them further."""

Reached = Callable[[Running], bool]


def loaded(low: int, high: int) -> Reached:
    events = rng.randint(low, high)
    return lambda running: running.applied() >= events


def answered(low: int, high: int) -> Reached:
    checkouts = rng.randint(low, high)
    return lambda running: running.answered() >= checkouts


PLAN: dict[str, tuple[Reached, int]] = {
    "first events": (loaded(1, 200), signal.SIGKILL),
    "loading": (loaded(250, 550), signal.SIGTERM),
    "still loading": (loaded(600, 1200), signal.SIGKILL),
    "training": (Running.training, signal.SIGKILL),
    "first checkouts": (answered(1, 12), signal.SIGKILL),
    "deciding": (answered(14, 24), signal.SIGINT),
    "last checkouts": (answered(26, 38), signal.SIGKILL),
}


@dataclass
class InterruptedRun:
    """A system that was ended at each moment of the plan and then ran to the end."""

    state: Path
    ends: dict[str, Ended] = field(default_factory=dict)
    contents: Contents | None = None
    stdout: str = ""
    last: Ended | None = None
    once: Ended | None = None
    other_source: Ended | None = None


@pytest.fixture(scope="module")
def interrupted(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InterruptedRun]:
    run = InterruptedRun(tmp_path_factory.mktemp("interrupted") / "state")
    adopt_secrets(served.running.state, run.state)
    started: list[Running] = []

    def start(**variables: str) -> Running:
        started.append(Running(served.assembly, run.state, **variables))
        return started[-1]

    try:
        for moment, (reached, number) in PLAN.items():
            running = start(DATA=str(served.data))
            running.until(lambda running=running, reached=reached: reached(running), moment)
            run.ends[moment] = running.end(number)
        running = start(DATA=str(served.data)).until_ready()
        run.contents, run.stdout = Account(run.state).contents(), running.stdout
        run.last = running.end(signal.SIGTERM)
        run.once = start(DATA=str(served.data), ONCE="1").result()
        run.other_source = start(SIZE="3").result()
        yield run
    finally:
        for running in started:
            running.process.kill()
            running.process.wait()


def test_no_process_outlives_the_system(interrupted: InterruptedRun) -> None:
    assert {moment: end.orphans for moment, end in interrupted.ends.items() if end.orphans} == {}
    assert interrupted.last is not None
    assert interrupted.last.orphans == []


def test_exit_codes_say_how_it_ended(interrupted: InterruptedRun) -> None:
    killed = -signal.SIGKILL
    assert {moment: end.code for moment, end in interrupted.ends.items()} == {
        "first events": killed,
        "loading": 128 + signal.SIGTERM,
        "still loading": killed,
        "training": killed,
        "first checkouts": killed,
        "deciding": 128 + signal.SIGINT,
        "last checkouts": killed,
    }
    for moment in ("loading", "deciding"):
        assert interrupted.ends[moment].stdout.endswith(
            "\nstopped before it was ready; the same command continues\n"
        )
        assert interrupted.ends[moment].stderr == ""
    assert interrupted.last is not None
    assert (interrupted.last.code, interrupted.last.stderr) == (0, "")
    assert interrupted.last.stdout.endswith("\nstopped\n")


def test_features_equal_those_of_an_uninterrupted_run(served: Served, interrupted: InterruptedRun) -> None:
    assert interrupted.contents is not None
    expected = served.contents.features
    assert interrupted.contents.features.keys() == expected.keys()
    for key, state in expected.items():
        assert interrupted.contents.features[key] == state, key


def test_the_archive_holds_every_event_whole(served: Served, interrupted: InterruptedRun) -> None:
    """An event that was sent twice is archived twice, with the same content; deduplication is by id."""
    assert interrupted.contents is not None
    source = from_folder(served.data)
    sent = [*source.history(), *(item for item in source.timeline() if not isinstance(item, SourceCheckout))]
    expected = {event["event_id"]: event for event in sent}
    for contents in (served.contents, interrupted.contents):
        all_events = expected | {name: published(record) for name, record in contents.records.items()}
        assert contents.archive.keys() == all_events.keys()
        assert all(copy == all_events[name] for name, copies in contents.archive.items() for copy in copies)
    assert all(len(copies) == 1 for copies in served.contents.archive.values())


def published(record: dict[str, Any]) -> Any:
    """The event that reports a decision."""
    event = decision.decided(decision.parse_record(json.dumps(record).encode()), DEFINITIONS)
    return json.loads(encode_event(event))


def test_no_queue_holds_anything(served: Served, interrupted: InterruptedRun) -> None:
    assert interrupted.contents is not None
    assert set(interrupted.contents.queued.values()) == {0}
    assert served.contents.queued == interrupted.contents.queued


def decided(record: dict[str, Any]) -> dict[str, Any]:
    """The decision and its reasons, without what depends on the run: bundle, writes, attempt, clock."""
    vector = {name: part for name, part in record["vector"].items() if name != "versions"}
    owed = record["adverse_action"] and record["adverse_action"]["kind"]
    named = {"vector": vector, "adverse_action": owed}
    return {**record, **named, "bundle": None, "attempt": None, "decided_at": None}


def test_decisions_are_those_of_an_uninterrupted_run(served: Served, interrupted: InterruptedRun) -> None:
    assert interrupted.contents is not None
    assert interrupted.contents.answers == served.contents.answers
    for name, record in served.contents.records.items():
        assert decided(interrupted.contents.records[name]) == decided(record)


def test_who_was_answered_before_a_kill_was_answered_the_same_after_it(interrupted: InterruptedRun) -> None:
    by_checkout = defaultdict(set)
    for line in (interrupted.state / "journey" / "answers.jsonl").read_text().splitlines():
        checkout, decision_id, _ = json.loads(line)
        by_checkout[checkout].add(decision_id)
    assert interrupted.contents is not None
    assert {len(decisions) for decisions in by_checkout.values()} == {1}
    assert set.union(*by_checkout.values()) == interrupted.contents.answers.keys()


def figures(stdout: str) -> list[str]:
    """The report without its times, and without the number of archived copies."""
    lines = [
        line for line in stdout.splitlines() if re.match(r"decisions=|approval|auc_|parity=|leaky", line)
    ]
    return [re.sub(r"from \d+ archived", "from archived", line) for line in lines]


def test_the_report_is_the_same_but_for_the_times(served: Served, interrupted: InterruptedRun) -> None:
    names = [line.partition("=")[0] for line in figures(interrupted.stdout)]
    assert names == [
        "decisions",
        "approval_rate",
        "auc_decided",
        "auc_validation",
        "parity",
        "leaky_parity",
    ]
    assert figures(interrupted.stdout) == figures(served.running.stdout)
    assert interrupted.once is not None
    assert figures(interrupted.once.stdout) == figures(interrupted.stdout)


def test_once_more_and_it_ends_by_itself(interrupted: InterruptedRun) -> None:
    assert interrupted.once is not None
    assert (interrupted.once.code, interrupted.once.stderr) == (0, "")
    assert "rows=" in interrupted.once.stdout


def test_another_population_is_refused_in_one_line(interrupted: InterruptedRun) -> None:
    assert interrupted.other_source is not None
    assert interrupted.other_source.code == 1
    assert "READY" not in interrupted.other_source.stdout
    assert re.fullmatch(
        r"error: this state belongs to superlender \(.*\), not to simulated \(.*\): run `make reset` first\n",
        interrupted.other_source.stderr,
    )
