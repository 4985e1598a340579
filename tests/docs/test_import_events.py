"""The page on importing: its mapping, its files and its commands work as they stand."""

import json
import re
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from cli.stage import Stage
from history.archive.events import EVENTS_PREFIX, read_envelopes, read_event
from history.imports.mapping import CheckoutBlock, EventBlock, MappingFile, Rows
from tests.cli.deployed import REGION, Deployed, called

PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/import-events.md").read_text("utf-8")


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name in ("loans.csv", "mapping.toml"):
        block = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
        assert block is not None
        (tmp_path / name).write_text(block[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


def commands() -> list[list[str]]:
    """The page's commands, on a stage instead of the local system."""
    return [
        line.removeprefix("candor ").removesuffix(" --local").split()
        for line in PAGE.splitlines()
        if line.startswith("candor events import")
    ]


@mock_aws
def test_the_pages_files_are_imported_by_its_commands(files):
    queue = boto3.client("sqs").create_queue(QueueName="stale")["QueueUrl"]
    Deployed(StaleItemsUrl=queue)
    results = [called(*words, "--json") for words in commands()]
    assert [result.exit_code for result in results] == [0, 0], [result.output for result in results]
    dry, done = (json.loads(result.stdout) for result in results)
    assert dry["read"]["refused"] == {}
    assert not dry["written"]
    assert done["filled"]["failures"] == {}
    events = [read_event(envelope) for envelope in read_envelopes(Stage("dev").archive(EVENTS_PREFIX))]
    assert [event.type for event in events] == [
        "checkout.decided",
        "checkout.started",
        "loan.originated",
        "checkout.decided",
        "checkout.started",
        "loan.originated",
        "loan.closed",
    ]
    assert events[2].data["amount"] == 12_050
    assert events[-1].data["days_late"] == -1


def test_the_page_names_every_entry_of_a_mapping():
    named = {
        name
        for struct in (EventBlock, CheckoutBlock, Rows, MappingFile)
        for name in struct.__struct_fields__
        if name not in ("type", "merchant", "approved_amount", "event", "checkout")
    }
    assert {name for name in named if f"`{name}" not in PAGE} == set()
