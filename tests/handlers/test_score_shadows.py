"""Shadows on moto: each scores every decision from its record alone, with one archive line each."""

from __future__ import annotations

import json
from base64 import b64encode

import boto3
import pytest
from moto import mock_aws

import lender
from candor.clock import Deadline
from candor.decision import to_record
from candor.registry.artifacts import keep_bundle
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration, RegistryItem
from candor.store.dynamodb import bound
from tests.decide.lending import RISKY, SAFE, Till, attempt, champion
from tests.handlers.archived import arrived, create_stream, refusing
from tests.handlers.lambdas import context, drain, load
from tests.reasons.lending import bundle as lenders_bundle

STREAM = "shadows"
OTHER = champion(8)


@pytest.fixture(scope="module")
def module():
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        create_stream(STREAM)
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="bundles")
        bound(RegistryItem, "registry").create_table(wait=True)
        registry = Registry("registry")
        for bundle in (champion(), OTHER, lenders_bundle()):
            keep_bundle(s3, "bundles", bundle.sha, bundle.to_bytes())
            registry.register(Registration(bundle.sha, "candidate", {}, "run", 1))
        registry.register(Registration("0" * 64, "candidate", {}, "run", 1))
        environment = {
            "SHADOWS_STREAM": STREAM,
            "STREAMS_DLQ_URL": boto3.client("sqs").create_queue(QueueName="streams-dlq")["QueueUrl"],
            "BUNDLES_BUCKET": "bundles",
            "REGISTRY_TABLE": "registry",
        }
        loaded = load("score_shadows", monkeypatch, environment)
        yield loaded


@pytest.fixture
def decisions():
    till = Till()
    return [
        till.decider.decide(attempt(f"k{n}", total=total), Deadline(60.0)).decision
        for n, total in enumerate((SAFE, RISKY, 95_000))
    ]


def record(decision, number: int = 1) -> dict:
    raw = decision if isinstance(decision, bytes) else to_record(decision)
    image = {"pk": {"S": "dec"}, "q": {"N": "1"}, "r": {"B": b64encode(raw).decode()}}
    change = {"NewImage": image, "Keys": {"pk": {"S": "dec"}}, "SequenceNumber": str(number)}
    return {"eventName": "INSERT", "eventSourceARN": "arn", "dynamodb": change}


def score(module, *shadows: str, records) -> tuple[dict, list]:
    module.REGISTRY.shadow(shadows)
    arrived(STREAM)
    answer = module.handler({"Records": records}, context("score_shadows"))
    return answer, arrived(STREAM)


def test_each_shadow_says_its_word_on_each_decision(module, decisions):
    records = [record(decision, place) for place, decision in enumerate(decisions)]
    answer, lines = score(module, champion().sha, OTHER.sha, records=records)
    assert answer == {"batchItemFailures": []}
    assert [(line["id"], line["bundle"]) for line in lines] == [
        (decision.id, sha) for decision in decisions for sha in (champion().sha, OTHER.sha)
    ]
    own = [line for line in lines if line["bundle"] == champion().sha]
    assert [(line["score"], line["outcome"]) for line in own] == [
        (decision.score, decision.outcome) for decision in decisions
    ]
    assert [line["score"] for line in lines if line["bundle"] == OTHER.sha] != [
        decision.score for decision in decisions
    ]


def test_without_shadows_nothing_is_said(module, decisions):
    assert score(module, records=[record(decisions[0])]) == ({"batchItemFailures": []}, [])


def test_a_shadow_of_other_definitions_is_passed_over(module, decisions):
    assert lenders_bundle().definition_hash == lender.DEFINITIONS.hash != decisions[0].definition_hash
    _, lines = score(module, lenders_bundle().sha, OTHER.sha, records=[record(decisions[0])])
    assert [line["bundle"] for line in lines] == [OTHER.sha]


def test_a_shadow_without_a_file_does_not_hold_the_others_up(module, decisions):
    _, lines = score(module, "0" * 64, OTHER.sha, records=[record(decisions[0])])
    assert [line["bundle"] for line in lines] == [OTHER.sha]


def test_a_record_that_cannot_be_read_is_a_letter(module, decisions):
    answer, lines = score(module, OTHER.sha, records=[record(b'{"id": "x"}'), record(decisions[0])])
    assert (answer, len(lines)) == ({"batchItemFailures": []}, 1)
    [message] = drain(module.DLQ_URL)
    assert json.loads(message["Body"])["sequence_number"] == "1"


def test_an_archive_that_refuses_brings_the_records_back(module, decisions, monkeypatch):
    refusing(module.FIREHOSE, monkeypatch, times=99)
    answer, _ = score(module, OTHER.sha, records=[record(decisions[0], 7)])
    assert answer == {"batchItemFailures": [{"itemIdentifier": "7"}]}
