"""The guard: a harmful promotion or challenge is reverted by one write, with a notice."""

from __future__ import annotations

import importlib
import json
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import boto3
import pytest
from moto import mock_aws

from candor.clock import HOUR, SystemClock
from candor.registry.guard import GUARD, GuardLimits, Traffic, harm
from candor.registry.lifecycle import Actor, Proposal
from candor.registry.pointer import PolicyInForce
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration

LIMITS = GuardLimits(hours=24, min_decisions=50, max_degraded=0.1, max_approval_change=0.2)
USUAL = Traffic(decisions=1_000, approved=800, degraded=10)
A, B, C = "a" * 64, "b" * 64, "c" * 64
CONTEXT = SimpleNamespace(
    function_name="guard", memory_limit_in_mb=1, invoked_function_arn="arn", aws_request_id="r"
)


@pytest.mark.parametrize(
    ("since", "why"),
    [
        (Traffic(100, 78, 1), None),
        (Traffic(100, 61, 0), None),
        (
            Traffic(100, 59, 0),
            "the approval rate went from 80.0% to 59.0%, at most 20.0% of change is allowed",
        ),
        (Traffic(50, 50, 0), None),
        (Traffic(1_000, 1_000, 0), None),
        (Traffic(100, 80, 11), "11.0% of the decisions are degraded, at most 10.0% may be"),
        (Traffic(100, 80, 10), None),
        (Traffic(49, 0, 49), None),
        (Traffic(0, 0, 0, 3), "its bundle could not serve 3 times"),
    ],
)
def test_harm_is_told_in_words_once_enough_was_decided(since, why):
    assert harm(USUAL, since, LIMITS) == ([] if why is None else [why])


def test_what_was_wrong_before_is_no_fault_of_the_change():
    assert harm(Traffic(1_000, 800, 300), Traffic(100, 80, 40), LIMITS) == []
    assert harm(Traffic(1_000, 800, 10, 5), Traffic(100, 80, 0, 2), LIMITS) == []


def test_a_first_champion_has_no_rate_before_it():
    assert harm(Traffic(), Traffic(100, 5, 0), LIMITS) == []


@pytest.fixture
def guarded(monkeypatch):
    """A registry with B promoted over A an hour ago, after a usual day; a queue hears of notices."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        boto3.client("dynamodb").create_table(
            TableName="registry",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        topic = boto3.client("sns").create_topic(Name="notices")["TopicArn"]
        queue = boto3.client("sqs").create_queue(QueueName="heard")["QueueUrl"]
        arn = "arn:aws:sqs:eu-west-1:123456789012:heard"
        boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        given = {
            "REGISTRY_TABLE": "registry",
            "NOTICES_TOPIC": topic,
            "STAGE": "test",
            "GUARD": json.dumps(LIMITS.__dict__),
            "POWERTOOLS_SERVICE_NAME": "guard",
            "POWERTOOLS_METRICS_NAMESPACE": "Candor",
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        registry, now = Registry("registry"), SystemClock().now_ms()
        for sha in (A, B, C):
            registry.register(Registration(sha, "candidate", {}, "run", 1))
        registry.promote(A, by="ana", at=now - 48 * HOUR)
        registry.promote(B, by="bob", at=now - HOUR // 2)
        happened(now - 2 * HOUR, USUAL)
        yield SimpleNamespace(registry=registry, now=now, queue=queue)


def happened(at: int, traffic: Traffic) -> None:
    """The scorer's metrics of a moment; those of another stage must not matter."""
    names = ("Decisions", "Approved", "Degraded", "BundlesFailed")
    for stage, factor in (("test", 1), ("other", 7)):
        boto3.client("cloudwatch").put_metric_data(
            Namespace="Candor",
            MetricData=[
                {
                    "MetricName": name,
                    "Value": value * factor,
                    "Timestamp": datetime.fromtimestamp(at / 1_000, UTC),
                    "Dimensions": [{"Name": "service", "Value": "score"}, {"Name": "stage", "Value": stage}],
                }
                for name, value in zip(names, traffic, strict=True)
            ],
        )


def guard() -> dict:
    sys.modules.pop("functions.guard_models.handler", None)
    return importlib.import_module("functions.guard_models.handler").handler({}, CONTEXT)


def notices(queue: str) -> list[dict]:
    messages = boto3.client("sqs").receive_message(QueueUrl=queue).get("Messages", [])
    return [json.loads(json.loads(each["Body"])["Message"]) for each in messages]


def test_a_promotion_that_does_harm_is_taken_back_once_and_told(guarded):
    happened(guarded.now - HOUR // 4, Traffic(100, 30, 0))
    outcome = guard()
    assert (outcome["taken_back"], outcome["was"], outcome["serves"]) == (B, "champion", A)
    pointer = guarded.registry.pointer()
    assert (pointer.bundle, pointer.by) == (A, GUARD)
    last = guarded.registry.history(B)[-1]
    assert (last.before, last.after, last.by) == ("champion", "retired", GUARD)
    assert last.why.startswith("the approval rate went from 80.0% to 30.0%")
    assert notices(guarded.queue) == [outcome]
    assert guard() == {"taken_back": None, "why": []}
    assert guarded.registry.pointer().moves == pointer.moves


def test_what_does_no_harm_stays(guarded):
    happened(guarded.now - HOUR // 4, Traffic(100, 78, 2))
    assert guard() == {"taken_back": None, "why": []}
    assert guarded.registry.pointer().bundle == B
    assert notices(guarded.queue) == []


def test_a_challenge_begun_since_is_what_is_taken_back(guarded):
    guarded.registry.challenge(C, 0.5, by="bob", at=guarded.now - HOUR // 3)
    happened(guarded.now - HOUR // 6, Traffic(100, 80, 40))
    outcome = guard()
    assert (outcome["taken_back"], outcome["was"], outcome["serves"]) == (C, "challenger", B)
    assert guarded.registry.pointer().challenger is None
    assert guarded.registry.history(C)[-1].by == GUARD


def released(guarded, at: int) -> None:
    """Release a table: C is B's model with it."""
    registry, replaces = guarded.registry, PolicyInForce(0, "d0", "t0", 0, "")
    release = registry.propose_policy("d1", "t1", replaces, Proposal("policy", "bob", at))
    registry.release_policy(release, {B: C}, registry.pointer(), Actor("bob", at))


def test_a_policy_release_that_does_harm_is_taken_back_and_nothing_else_is(guarded):
    released(guarded, guarded.now - HOUR // 3)
    happened(guarded.now - HOUR // 4, Traffic(100, 30, 0))
    outcome = guard()
    assert (outcome["taken_back"], outcome["was"], outcome["serves"]) == (C, "policy", B)
    assert guarded.registry.release(1).state == "retired"
    assert guarded.registry.release_history(guarded.registry.release(1))[-1].by == GUARD
    assert guard() == {"taken_back": None, "why": []}, (
        "the promotion before the release is not taken back as well"
    )


def test_a_policy_that_a_person_rolled_back_is_left_alone(guarded):
    released(guarded, guarded.now - HOUR // 3)
    guarded.registry.roll_back_policy(Actor("ana", guarded.now - HOUR // 5))
    happened(guarded.now - HOUR // 6, Traffic(100, 30, 0))
    assert guard() == {"taken_back": None, "why": []}
    assert guarded.registry.pointer().bundle == B


def test_a_bundle_that_cannot_serve_is_taken_back_at_once(guarded):
    happened(guarded.now - HOUR // 4, Traffic(3, 2, 0, 1))
    assert guard()["taken_back"] == B


def test_an_old_change_is_left_to_people(guarded):
    guarded.registry.promote(C, by="ana", at=guarded.now - 25 * HOUR)
    happened(guarded.now - HOUR // 4, Traffic(100, 1, 90))
    assert guard() == {"taken_back": None, "why": []}


def test_a_first_champion_has_nobody_before_it(guarded):
    boto3.client("dynamodb").update_item(
        TableName="registry", Key={"pk": {"S": f"bundle#{B}"}}, UpdateExpression="REMOVE succeeded"
    )
    happened(guarded.now - HOUR // 4, Traffic(100, 1, 90))
    outcome = guard()
    assert outcome["taken_back"] is None
    assert outcome["why"][-1] == "no champion served before this one: promote another bundle"
    assert guarded.registry.pointer().bundle == B


def test_limits_are_read_whole_or_not_at_all():
    with pytest.raises(ValueError, match="give exactly"):
        GuardLimits.parse("{}")
