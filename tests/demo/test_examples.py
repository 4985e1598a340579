"""The commands that the demo prints, checked against the declarations; the system's own tests run them."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

from candor.clock import parse_rfc3339
from candor.contracts import parse_event
from demo.examples import (
    EventExample,
    checkout_body,
    checkout_command,
    event_command,
    event_example,
    explain_command,
    show_command,
)
from demo.sources.simulated import SimulatedLender
from lender import DEFINITIONS

NOW = parse_rfc3339("2026-11-24T08:00:00Z")
URL = "http://127.0.0.1:8080"


def example() -> EventExample:
    chosen = event_example(DEFINITIONS, SimulatedLender(customers=20).history(), NOW)
    assert chosen is not None
    return chosen


def test_the_event_is_accepted_and_counted_by_the_view_that_is_shown():
    event, view = example()
    words = shlex.split(event_command(URL, "eu-west-1", event))
    assert words[2] == f"{URL}/v1/events"
    assert words[words.index("--aws-sigv4") + 1] == "aws:amz:eu-west-1:execute-api"
    [sent] = json.loads(words[words.index("-d") + 1])["events"]
    parsed = parse_event(json.dumps(sent).encode())
    DEFINITIONS.check_event(parsed, NOW)
    assert (parsed.id, parsed.occurred_at, parsed.known_at) == (f"try-{NOW}", NOW, None)
    assert view in DEFINITIONS.views_by_event[parsed.type]
    shown = shlex.split(show_command(example(), Path("/tmp/a state")))
    assert shown[1:] == [
        *("features", "show", view.name, parsed.entities[view.entity.name]),
        *("--local", "--state", "/tmp/a state"),
    ]


def test_a_source_without_a_counted_event_has_no_example():
    assert event_example(DEFINITIONS, [], NOW) is None
    unknown = {"type": "no.such", "entities": {"customer": "c"}}
    assert event_example(DEFINITIONS, [unknown], NOW) is None


def test_the_explanation_asks_with_the_same_key_and_the_same_body(tmp_path):
    checkout = next(iter(SimulatedLender(customers=20).checkouts()))
    state, body = tmp_path / "a state", tmp_path / "a body.json"
    body.write_text(checkout_body(checkout))
    decide = shlex.split(checkout_command(URL, "sk_test_1", checkout))
    command = explain_command(URL, "sk_test_1", body, state)
    repeated = shlex.split(command.partition('"$(')[2].partition(" | ")[0])
    assert repeated[:2] == ["curl", "-s"]
    assert repeated[2:-1] == decide[2:-1]
    assert Path(repeated[-1].removeprefix("@")).read_text() == decide[-1]
    answer = shlex.quote('{"id":"dec_i5jmqgal5jn35iaoe5d4nkhtla","outcome":"declined"}')
    id_alone = command.rpartition(" | ")[2].partition(")")[0]
    done = subprocess.run(
        ["sh", "-c", f"printf %s {answer} | {id_alone}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "dec_i5jmqgal5jn35iaoe5d4nkhtla\n"
    assert shlex.split(command.rpartition('" ')[2]) == ["--local", "--state", str(state)]


def test_the_checkout_is_decided_at_the_systems_own_clock():
    checkout = next(iter(SimulatedLender(customers=20).checkouts()))
    words = shlex.split(checkout_command(URL, "sk_test_1", checkout))
    assert words[words.index("-u") + 1] == "sk_test_1:"
    assert "occurred_at" not in json.loads(words[words.index("-d") + 1])
