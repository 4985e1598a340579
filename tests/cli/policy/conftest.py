"""A stage with a champion that has decided, for the tests of policy releases."""

from __future__ import annotations

import boto3
import pytest
from moto import mock_aws

import lender
from candor.model.bundle import Bundle
from candor.model.policy_document import PolicyDocument
from candor.registry.artifacts import keep_bundle, read_bundle
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration
from cli.policy import backtest as command
from tests.cli.deployed import REGION, Deployed
from tests.trained import train

DRIVERS = {"request.amount": 100_000.0}
TOTALS = (1_000, 3_000, 20_000)


@pytest.fixture(scope="module")
def champion() -> Bundle:
    return train(lender.DEFINITIONS, lender.policy(), lender.REASONS, DRIVERS, monotone=lender.MONOTONE)


@pytest.fixture
def deployed(monkeypatch, champion):
    """A stage, made with these outputs, whose champion has made three decisions."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    command._JUDGES.clear()

    def made(**outputs: str) -> Deployed:
        stage = Deployed(**outputs)
        keep_bundle(boto3.client("s3"), "bundles", champion.sha, champion.to_bytes())
        registry = Registry("registry")
        digest = PolicyDocument.in_bundle(champion).digest
        registry.register(Registration(champion.sha, "candidate", {}, "run", 1, policy=digest))
        registry.promote(champion.sha, by="ana", at=2)
        for total in TOTALS:
            decided(stage, f"k{total}", total)
        stage.deliver("decisions")
        return stage

    with mock_aws():
        yield made


def decided(stage: Deployed, key: str, total: int):
    """A decision by the bundle that serves now."""
    sha = Registry("registry").pointer().bundle
    made = Bundle.from_bytes(read_bundle(boto3.client("s3"), "bundles", sha), sha)
    return stage.decide(key, f"cus_{key}", total=total, bundle=made)
