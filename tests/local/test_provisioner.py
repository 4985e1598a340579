"""Unknown resource types and settings are refused, and not skipped in silence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.assembly.template import load_assembly
from local.deployment.provisioner import ACKNOWLEDGED, Provisioner, function_name
from local.errors import TemplateError, UnknownResource
from local.system import LocalSystem

MACHINE = {"RoleArn": "role", "DefinitionString": '{"QueryLanguage": "JSONata", "States": {}}'}
DESTINATION = {"BucketARN": "arn:aws:s3:::b"}
FOLLOWING = {"EventSourceArn": "arn:aws:dynamodb:r:a:table/t/stream/1", "StartingPosition": "TRIM_HORIZON"}


class Deaf:
    """Services that accept everything."""

    def __getattr__(self, name: str) -> Callable[..., str]:
        return lambda *_: f"arn:aws:x:::{name}"


def start(assembly: Path) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    exports: dict[str, Any] = {}
    for stack in load_assembly(assembly):
        Provisioner.check(stack)
        outputs |= Provisioner(stack, Deaf(), exports).start()  # type: ignore[arg-type]
    return outputs


def test_an_unknown_type_is_refused_before_anything_starts(
    assembly_of: Callable[..., Path], template: dict[str, Any], tmp_path: Path
) -> None:
    template["Resources"]["Vpc"] = {"Type": "AWS::EC2::VPC"}
    state = tmp_path / "state"
    with pytest.raises(
        UnknownResource, match=r"AWS::EC2::VPC \(Vpc in stack app\) is not known.*provisioner.py"
    ):
        LocalSystem(assembly_of(app=template), state, 0).__enter__()
    assert not state.exists()


@pytest.mark.parametrize(
    ("kind", "properties", "message"),
    [
        ("AWS::SQS::Queue", {"FifoQueue": True}, "FIFO"),
        ("AWS::Events::Rule", {"ScheduleExpression": "rate(1 day)"}, "schedules are not run"),
        (
            "AWS::Events::Rule",
            {"EventPattern": {}, "Targets": [{"Arn": "arn:aws:lambda:r:a:f"}]},
            "neither a queue",
        ),
        (
            "AWS::Events::Rule",
            {"EventPattern": {}, "Targets": [{"Arn": "arn:aws:sqs:r:a:q", "InputPath": "$.a"}]},
            "input",
        ),
        (
            "AWS::Events::Rule",
            {
                "EventPattern": {},
                "Targets": [
                    {
                        "Arn": "arn:aws:sqs:r:a:q",
                        "InputTransformer": {"InputTemplate": '{"e":<aws.events.event>}'},
                    }
                ],
            },
            "<aws.events.event> is not supported there",
        ),
        ("AWS::StepFunctions::StateMachine", MACHINE, "JSONata"),
        ("AWS::Lambda::Function", {"Runtime": "nodejs24.x"}, "nodejs24.x is not supported"),
        (
            "AWS::Lambda::EventSourceMapping",
            {"EventSourceArn": "arn:aws:kinesis:r:a:t"},
            "only queues and tables' streams are polled",
        ),
        (
            "AWS::Lambda::EventSourceMapping",
            {"EventSourceArn": "arn:aws:sqs:r:a:q", "FilterCriteria": {"Filters": []}},
            "messages are not filtered",
        ),
        (
            "AWS::Lambda::EventSourceMapping",
            {**FOLLOWING, "StartingPosition": "LATEST"},
            "from TRIM_HORIZON on only",
        ),
        (
            "AWS::Lambda::EventSourceMapping",
            {**FOLLOWING, "ParallelizationFactor": 2},
            "one batch at a time",
        ),
        (
            "AWS::Lambda::EventSourceMapping",
            {**FOLLOWING, "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sns:r:a:t"}}},
            "is not a queue",
        ),
        ("AWS::ApiGateway::RestApi", {"Body": {}}, "not from a body"),
        ("AWS::ApiGateway::Method", {"Integration": {"Type": "HTTP"}}, "only Lambda proxy and mock"),
        ("AWS::ApiGateway::Method", {"Integration": {"Type": "MOCK"}}, "must not pass bodies through"),
        ("AWS::KinesisFirehose::DeliveryStream", {}, "only direct put"),
        (
            "AWS::KinesisFirehose::DeliveryStream",
            {"ExtendedS3DestinationConfiguration": {**DESTINATION, "CompressionFormat": "ZIP"}},
            "compression ZIP",
        ),
        (
            "AWS::KinesisFirehose::DeliveryStream",
            {
                "ExtendedS3DestinationConfiguration": {
                    **DESTINATION,
                    "ProcessingConfiguration": {"Enabled": True, "Processors": [{"Type": "Lambda"}]},
                }
            },
            "only processor supported",
        ),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(
    kind: str, properties: dict[str, Any], message: str, assembly_of: Callable[..., Path]
) -> None:
    with pytest.raises(UnknownResource, match=message):
        start(assembly_of(app={"Resources": {"It": {"Type": kind, "Properties": properties}}}))


def test_exports_reach_the_next_stack_and_circles_are_reported(assembly_of: Callable[..., Path]) -> None:
    first = {
        "Resources": {"Role": {"Type": "AWS::IAM::Role"}},
        "Outputs": {"Role": {"Value": {"Fn::GetAtt": ["Role", "Arn"]}, "Export": {"Name": "first:Role"}}},
    }
    second = {"Outputs": {"Same": {"Value": {"Fn::ImportValue": "first:Role"}}}}
    outputs = start(assembly_of(first=first, second=second))
    assert outputs["Same"] == outputs["Role"] == "arn:aws:iam::123456789012:role/first-Role"


def test_a_circle_is_reported(assembly_of: Callable[..., Path]) -> None:
    def queue(other: str) -> dict[str, Any]:
        return {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Ref": other}}}

    with pytest.raises(TemplateError, match="A -> B -> A"):
        start(assembly_of(app={"Resources": {"A": queue("B"), "B": queue("A")}}))


def test_every_acknowledged_type_says_why_and_is_not_also_run() -> None:
    assert all(ACKNOWLEDGED.values())
    assert not set(ACKNOWLEDGED) & set(Provisioner.KNOWN)


@pytest.mark.parametrize(
    "reference",
    [
        "score",
        "arn:aws:lambda:eu-west-1:123456789012:function:score",
        "arn:aws:lambda:eu-west-1:123456789012:function:score:live",
        "arn:aws:apigateway:r:lambda:path/2015-03-31/functions/arn:aws:lambda:r:1:function:score:live/invocations",
    ],
)
def test_function_names(reference: str) -> None:
    assert function_name(reference) == "score"
