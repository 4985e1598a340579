"""No command prints a token: a word stands for every person and device of a stage, and for what an event may carry."""

from __future__ import annotations

import gzip
import json
import logging

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

import lender
import tests.cli.deployed
from candor.clock import DAY, SystemClock
from candor.contracts import Event
from candor.registry.artifacts import keep_bundle
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration
from cli.__main__ import candor
from tests.cli.deployed import REGION, Deployed
from tests.cli.models.test_monitor import RUN, files
from tests.cli.test_reference import COMMANDS
from tests.decision_tables import limited
from tests.handlers.checkouts import checkout
from tests.trained import train

CANARY = "canary7f3a"
"""Part of every token, and of every text of an event that no declaration names."""

EMAIL = "ca9a47" * 10 + "abcd"
TOKEN, DEVICE, PREFIX = f"cus_{CANARY}", f"dev_{CANARY}", f"{CANARY}.0/24"
VIEW = "customer_repayments"
QUEUES = (
    "EventsQueueUrl",
    "EventsDlqUrl",
    "UndeliveredUrl",
    "StaleItemsUrl",
    "StaleItemsDlqUrl",
    "StreamsDlqUrl",
)
TABLES = ("events", "decisions", "commits")


def _payment(number: int, **data: object) -> Event:
    about = {"loan_id": "l1", "amount": 100, "currency": "USD", "days_late": number} | data
    at = SystemClock().now_ms() - 60 * DAY + number * 3_600_000
    return Event(f"evt_{number}", "payment.succeeded", at, {"customer": TOKEN, "device": DEVICE}, about)


def _planted(total: int, token: str) -> dict:
    device = {"fingerprint": DEVICE, "ip_prefix": PREFIX, "session_age_s": 410}
    body = checkout(total, token, device=device)
    return body | {"applicant": body["applicant"] | {"email_sha256": EMAIL}}


@pytest.fixture(scope="module")
def stage():
    """A stage whose archive, tables and queues hold the canary; gives the ids of two decisions and of the model."""
    bundle = train(
        lender.DEFINITIONS,
        lender.policy(),
        lender.REASONS,
        {"request.amount": 100_000.0},
        monotone=lender.MONOTONE,
    )
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setattr(tests.cli.deployed, "checkout", _planted)
        sqs = boto3.client("sqs")
        urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in QUEUES}
        deployed = Deployed(**urls)
        s3 = boto3.client("s3")
        keep_bundle(s3, "bundles", bundle.sha, bundle.to_bytes())
        Registry("registry").register(Registration(bundle.sha, "candidate", {}, RUN, 1))
        Registry("registry").promote(bundle.sha, by="ana", at=1)
        for name, data in files(bundle).items():
            s3.put_object(Bucket="training", Key=f"runs/{RUN}/{name}", Body=data)
        events = [_payment(number, free=f"paid by {TOKEN}") for number in range(40)]
        deployed.happen(events)
        deployed.put("events/", [json.dumps({"time": "2026-11-24T08:00:01Z", "detail": CANARY}).encode()])
        approved = deployed.decide("k1", TOKEN, bundle=bundle)
        declined = deployed.decide("k2", TOKEN, total=150_000, bundle=bundle)
        deployed.deliver()
        body = json.dumps({"detail": {"type": "payment.due", "entities": {"customer": TOKEN}, "x": CANARY}})
        for url in urls.values():
            sqs.send_message(QueueUrl=url, MessageBody=body)
        yield approved.id, declined.id, bundle.sha


def _import_files(folder) -> tuple[str, ...]:
    """Words that import two flags of the person, the second of which is refused."""
    rows = folder / "flags.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"n": number, "at": "2026-05-01", "who": TOKEN, "flag": flag}) + "\n"
            for number, flag in enumerate((CANARY, CANARY * 40))
        )
    )
    mapping = folder / "mapping.toml"
    mapping.write_text(
        '[[event]]\ntype = "account.flagged"\nid = "\'flag_\' || n"\noccurred_at = "at"\n'
        'entities.customer = "who"\ndata.flag = "flag"\n'
    )
    return str(rows), "--map", str(mapping)


def _commands(tmp_path, approved: str, declined: str, sha: str) -> dict[str, list[tuple[str, ...]]]:
    """Words of every command, in the order in which they run: erasing comes after what reads, and refuses to run beside a retraining."""
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(lender.policy()))
    limited_table = tmp_path / "limited.json"
    limited_table.write_text(json.dumps(limited(100_000)))
    imported = _import_files(tmp_path)
    version = next(view.version for view in lender.DEFINITIONS.views if view.name == VIEW)
    ids = (approved, declined)
    return {
        "archive compact": [()],
        "archive index": [()],
        "decisions show": [(each,) for each in ids],
        "decisions explain": [*((each,) for each in ids), (declined, "--notice")],
        "decisions replay": [(each,) for each in ids],
        "decisions rescore": [("--bundle", sha, "--here", "--out", str(tmp_path / "rescored"))],
        "dlq list": [()],
        "dlq show": [(name,) for name in ("EventsDlq", "Undelivered", "StaleItemsDlq", "StreamsDlq")],
        "dlq redrive": [(name,) for name in ("EventsDlq", "Undelivered", "StaleItemsDlq", "StreamsDlq")],
        "events import": [(*imported, "--dry-run"), imported, (*imported, "--skip-refused")],
        "features serving": [()],
        "features show": [(VIEW, "-")],
        "features as-of": [(VIEW, "-", "--at", "1h")],
        "features replay": [(), (approved,)],
        "features consistency": [()],
        "features backfill": [(VIEW, "--to", version)],
        "features flip": [(VIEW, "--to", version)],
        "features rollback": [(VIEW,)],
        "features rebuild": [(VIEW, "--entity", "-"), (VIEW, "--pending")],
        "models list": [()],
        "models show": [(sha,)],
        "models compare": [(sha, sha)],
        "models history": [()],
        "models report": [(sha,)],
        "models monitor": [("--html", str(tmp_path / "monitor.html"))],
        "models promote": [(sha,)],
        "models approve": [(sha,)],
        "models rollback": [()],
        "models challenge": [(sha, "--share", "0.1")],
        "models shadow": [(sha,)],
        "policy backtest": [("--policy", str(policy))],
        "policy check": [("--policy", str(policy))],
        "policy propose": [(str(limited_table), "--why", "a canary", "--apply")],
        "policy approve": [()],
        "policy show": [()],
        "policy history": [()],
        "policy rollback": [("--why", "a canary")],
        "dataset build": [("--out", str(tmp_path / "dataset"))],
        "sql": [
            *((f"SELECT * FROM {table}",) for table in TABLES),
            ("SELECT entities['customer']::int FROM events",),
            ("SELECT json_extract(record, '$.request') FROM decisions",),
        ],
        "features erase": [
            ("--entity", "customer:-", "--dry-run"),
            ("--entity", "customer:-", "--yes"),
            ("--entity", "customer:-", "--yes", "--again"),
        ],
        "retrain": [("--run", "r1")],
    }


MUST_WORK = {
    "archive compact",
    "archive index",
    "decisions show",
    "decisions explain",
    "decisions replay",
    "decisions rescore",
    "dlq list",
    "dlq show",
    "events import",
    "features serving",
    "features show",
    "features as-of",
    "features rebuild",
    "features erase",
    "models list",
    "policy check",
    "policy history",
    "policy propose",
    "policy show",
}
"""Commands that have something to print here; of the others an error is an output as well."""


def test_no_command_prints_a_token(stage, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("cli.features.rebuild.POLL_S", 0.0)
    caplog.set_level(logging.INFO)
    commands = _commands(tmp_path, *stage)
    assert sorted(commands) == COMMANDS, "say here how a new command is called"
    worked = set()
    for name, calls in commands.items():
        for words in calls:
            for form in ((), ("--json",)):
                result = CliRunner().invoke(candor, [*name.split(), *words, *form], input=f"{TOKEN}\n")
                if result.exit_code == 0 and result.stdout.strip():
                    worked.add(name)
                assert result.exit_code != 2, f"{name} {words} is wrong usage: {result.stderr}"
                printed = f"{result.output}\n{result.stderr}\n{result.exception!r}"
                assert CANARY not in printed, f"{name} {words} {form}"
                assert EMAIL[:12] not in printed, f"{name} {words} {form}"
    assert CANARY not in caplog.text
    assert worked >= MUST_WORK
    page = tmp_path / "monitor.html"
    assert CANARY not in (page.read_text() if page.exists() else "")


def test_the_canary_is_there_to_be_printed(stage):
    """Without this the test above could pass on an empty stage."""
    s3 = boto3.client("s3")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="archive", Prefix="decisions/")["Contents"]]
    bodies = [gzip.decompress(s3.get_object(Bucket="archive", Key=key)["Body"].read()) for key in keys]
    assert any(
        TOKEN.encode() in body and EMAIL.encode() in body and DEVICE.encode() in body for body in bodies
    )
