"""A challenge and shadows are one write each; refused commands print one line."""

from __future__ import annotations

import json

import boto3
import pytest
from moto import mock_aws

from candor.registry.artifacts import keep_bundle
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration
from tests.cli.deployed import REGION, Deployed, called

A, B = "a" * 64, "b" * 64


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        Deployed()
        models = Registry("registry")
        for sha in (A, B):
            keep_bundle(boto3.client("s3"), "bundles", sha, b"{}")
            models.register(Registration(sha, "candidate", {}, "run", 1))
        models.promote(A, by="ana", at=1)
        yield models


def test_a_challenge_begins_and_ends(registry):
    begun = json.loads(called("models", "challenge", B, "--share", "0.1", "--by", "bob", "--json").stdout)
    assert (begun["champion"], begun["challenger"]["bundle"], begun["challenger"]["share"]) == (A, B, 0.1)
    assert registry.pointer().challenger.by == "bob"
    assert "none" in called("models", "challenge", "--end").stdout
    assert registry.pointer().challenger is None


def test_shadows_are_those_that_are_named(registry):
    assert json.loads(called("models", "shadow", A, B, "--json").stdout)["shadows"] == [A, B]
    called("models", "shadow", "--none")
    assert list(registry.pointer().shadows) == []


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("challenge", B), 2, "give BUNDLE and --share"),
        (("challenge", "--end", "--share", "0.1"), 2, "give BUNDLE and --share"),
        (("challenge", B, "--share", "1"), 1, "to serve everyone, promote it"),
        (("challenge", A, "--share", "0.1"), 1, "is the champion"),
        (("challenge", "c" * 64, "--share", "0.1"), 1, "register it again"),
        (("shadow",), 2, "give one BUNDLE or more"),
        (("shadow", "c" * 64), 1, "register it again"),
        (("challenge", B, "--share", "0.1", "--next"), 2, "give BUNDLE and --share"),
        (("promote", "c" * 64), 1, "register it again"),
        (("promote", "cc"), 1, "cc is no bundle"),
        (("approve", B), 1, "nothing is proposed of bundle bbbbbbbbbbbb"),
        (("rollback",), 1, "no champion served before this one"),
        (("show", "c" * 64), 1, "is no bundle"),
        (("compare", A), 1, "has no evaluation.json: retrain"),
        (("report", A), 1, "has no report.html: retrain"),
    ],
)
def test_what_cannot_be_is_told(registry, words, code, why):
    moves = registry.pointer().moves
    result = called("models", *words)
    assert result.exit_code == code
    assert why in result.stderr
    assert registry.pointer().moves == moves
