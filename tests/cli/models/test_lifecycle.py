"""Commands of a bundle's life: a growing canary, approval by a second person, rollback."""

from __future__ import annotations

import json
from functools import cache

import boto3
import pytest
from moto import mock_aws

import cli.stage
from candor.clock import DAY, FixedClock, SystemClock
from candor.decision import Decision
from candor.model.bundle import Bundle
from candor.registry.artifacts import keep_bundle
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration
from candor.store.dynamodb import DynamoDecisionStore
from lender import DEFINITIONS, MONOTONE, REASONS, policy
from tests import trained
from tests.cli.deployed import REGION, Deployed, called
from tests.handlers.checkouts import RISKY
from tests.registry.evaluations import sound

A, B = "a" * 64, "b" * 64


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield


def registry_of(*shas: str, run: str = "run") -> Registry:
    registry = Registry("registry")
    for at, sha in enumerate(shas, 1):
        keep_bundle(boto3.client("s3"), "bundles", sha, b"{}")
        registry.register(Registration(sha, "candidate", {"auc": 0.7}, f"{run}-{at}", at))
    return registry


def models(*words: str) -> dict:
    result = called("models", *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def evaluated(sha: str, **changes) -> None:
    for name, body in (
        ("evaluation.json", json.dumps(sound(sha, **changes))),
        ("report.html", f"<title>{sha[:1]}</title>"),
    ):
        boto3.client("s3").put_object(Bucket="bundles", Key=f"bundles/{sha}/{name}", Body=body.encode())


@cache
def bundle(seed: int, **drivers: float) -> Bundle:
    named = {f"request.{name}": scale for name, scale in drivers.items()}
    return trained.train(DEFINITIONS, policy(), REASONS, named, seed, monotone=MONOTONE)


def test_a_rollback_restores_byte_identical_decisions(account):
    """The same request at the same moment, before promotion and after rollback: records differ in their id only."""
    stage = Deployed()
    first, second = bundle(7, amount=200_000.0), bundle(8, term_days=60.0)
    registry = Registry("registry")
    for made in (first, second):
        keep_bundle(boto3.client("s3"), "bundles", made.sha, made.to_bytes())
        registry.register(Registration(made.sha, "candidate", {}, "run", 1))
    shelf = {made.sha: made for made in (first, second)}
    moment = SystemClock().now_ms() - DAY

    def decided(key: str) -> Decision:
        serving = registry.pointer().bundle
        clock = FixedClock(moment + DAY)
        return stage.decide(key, f"cus_{key}", moment, clock, RISKY, shelf[serving])

    called("models", "promote", first.sha)
    before = decided("before")
    called("models", "promote", second.sha)
    between = decided("between")
    assert models("rollback", "--why", "too many declines")["champion"] == first.sha
    after = decided("after")
    assert between.bundle != before.bundle
    assert between.score != before.score
    assert spelled(after) == spelled(before)
    stored = (
        boto3.client("s3").get_object(Bucket="bundles", Key=f"bundles/{after.bundle}.json")["Body"].read()
    )
    assert stored == first.to_bytes()


def spelled(decision: Decision) -> bytes:
    """Stored record without what identifies the request (id, key, applicant) and without the versions of writes."""
    stored = DynamoDecisionStore("features", "decisions", lambda: (None, {})).get(decision.id)
    record = json.loads(stored.record)
    record["request"]["applicant"]["token"] = None
    record["vector"]["versions"] = None
    return json.dumps({**record, "id": None, "attempt": None}, sort_keys=True).encode()


def test_a_canary_grows_by_the_stages_steps_and_is_then_promoted(account):
    Deployed()
    registry = registry_of(A, B)
    called("models", "promote", A)
    shares = [models("challenge", B[:4], "--next", "--by", "bob")["challenger"]["share"] for _ in range(3)]
    assert shares == [0.05, 0.2, 0.5]
    result = called("models", "challenge", B, "--next")
    assert (result.exit_code, "no step of the canary is above 50.0%" in result.stderr) == (1, True)
    assert models("promote", B, "--why", "as good, fewer declines")["champion"] == B
    assert registry.pointer().challenger is None
    steps = models("history", B)["steps"]
    assert [(step["from"], step["to"]) for step in steps] == [
        (None, "candidate"),
        ("candidate", "challenger"),
        ("challenger", "challenger"),
        ("challenger", "challenger"),
        ("challenger", "champion"),
    ]
    assert steps[-1]["why"] == "as good, fewer declines"
    assert {step["bundle"] for step in models("history")["steps"]} == {A, B}
    assert "retired" in called("models", "history").stdout


def test_two_persons_by_name_and_by_identity(account, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    Deployed(PromotionApproval="second_person")
    registry = registry_of(A, B)
    who = {"arn": "arn:ana"}
    monkeypatch.setattr(cli.stage.Stage, "identity", lambda _: who["arn"])
    proposed = called("models", "promote", A, "--by", "ana", "--why", "July")
    assert "candor models approve aaaaaaaaaaaa" in proposed.stdout
    assert registry.pointer().bundle is None
    assert models("show", A)["proposal"]["by"] == "ana"
    assert "champion by ana" in called("models", "list").stdout
    for arn, by in (("arn:ana", "bob"), ("arn:bob", "ana")):
        who["arn"] = arn
        refused = called("models", "approve", A, "--by", by)
        assert (refused.exit_code, "somebody else must approve" in refused.stderr) == (1, True)
    who["arn"] = "arn:bob"
    assert models("approve", A, "--by", "bob")["champion"] == A
    last = models("history", A)["steps"][-1]
    assert (last["by"], last["identity"], last["why"]) == (
        "bob",
        "arn:bob",
        "approved: ana proposed it (July)",
    )
    models("challenge", B, "--share", "0.1", "--by", "bob")
    who["arn"] = "arn:ana"
    assert models("approve", B, "--by", "ana")["challenger"]["share"] == 0.1


def test_the_identity_is_that_of_the_credentials(account, monkeypatch):
    iam, identities = boto3.client("iam"), []
    for name in ("ana", "bob"):
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        identities.append(cli.stage.Stage("dev").identity())
    assert [arn.rpartition("/")[2] for arn in identities] == ["ana", "bob"]


def test_a_rollback_asks_nobody(account):
    Deployed(PromotionApproval="second_person")
    registry = registry_of(A, B)
    registry.promote(A, by="ana", at=1)
    registry.promote(B, by="ana", at=2)
    assert models("rollback", "--by", "bob", "--why", "complaints")["champion"] == A


def test_what_there_is_is_listed_with_what_its_gates_said(account):
    Deployed()
    registry = registry_of(A)
    registry.register(Registration(B, "refused", {}, "run-2", 9, gates=[("parity", "3 rows differ")]))
    bundles = models("list")["bundles"]
    assert [(listing["bundle"], listing["state"], listing["refused"]) for listing in bundles] == [
        (B, "refused", ["parity: 3 rows differ"]),
        (A, "candidate", []),
    ]
    table = called("models", "list").stdout
    assert "0.7000" in table
    assert "parity: 3" in table
    assert "parity: 3 rows differ" in called("models", "show", B[:5]).stdout


def test_two_evaluations_stand_side_by_side(account):
    Deployed()
    registry_of(A, B).promote(A, by="ana", at=1)
    evaluated(A)
    evaluated(B, stability={"psi": 0.16}, fairness=None)
    figures = models("compare", B)["figures"]
    assert figures["stability.psi"] == [0.16, 0.06, pytest.approx(0.10)]
    assert figures["discrimination.auc"] == [0.71, 0.71, 0.0]
    assert figures["fairness.air"] == [None, 0.93, None]
    assert "+0.1" in called("models", "compare", B, A).stdout


def test_the_report_is_written_where_it_is_asked_for(account, tmp_path, monkeypatch):
    Deployed()
    registry_of(A)
    evaluated(A)
    monkeypatch.chdir(tmp_path)
    path = models("report", A)["report"]
    assert path == str(tmp_path / "report-aaaaaaaaaaaa.html")
    assert (tmp_path / "report-aaaaaaaaaaaa.html").read_text() == "<title>a</title>"
    assert called("models", "report", A, "--out", "r.html").stdout == f"{tmp_path / 'r.html'}\n"
