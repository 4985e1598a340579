"""The interpreter of templates: CloudFormation's functions, the order of stacks, and clear errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.assembly.template import Resolver, Resource, Stack, load_assembly
from local.errors import TemplateError

TEMPLATE: dict[str, Any] = {
    "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
    "Parameters": {"Size": {"Type": "String", "Default": "small"}, "Bare": {"Type": "String"}},
    "Mappings": {"Sizes": {"eu-west-1": {"small": 3}}},
    "Conditions": {
        "IsSmall": {"Fn::Equals": [{"Ref": "Size"}, "small"]},
        "IsLarge": {"Fn::Not": [{"Condition": "IsSmall"}]},
        "Both": {"Fn::And": [{"Condition": "IsSmall"}, {"Condition": "IsLarge"}]},
        "Either": {"Fn::Or": [{"Condition": "IsSmall"}, {"Condition": "IsLarge"}]},
    },
}


def resolver(exports: dict[str, Any] | None = None) -> Resolver:
    queue = Resource("http://queue", {"Arn": "arn:aws:sqs:eu-west-1:123456789012:queue"})
    stack = Stack("stack", "123456789012", "eu-west-1", TEMPLATE, {})
    return Resolver(stack, exports or {}, {"Queue": queue}.__getitem__)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"Ref": "Queue"}, "http://queue"),
        ({"Ref": "Size"}, "small"),
        ({"Ref": "AWS::Region"}, "eu-west-1"),
        ({"Ref": "AWS::Partition"}, "aws"),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:aws:sqs:eu-west-1:123456789012:queue"),
        ({"Fn::GetAtt": "Queue.Arn"}, "arn:aws:sqs:eu-west-1:123456789012:queue"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Size"}, 1]]}, "a-small-1"),
        ({"Fn::Sub": "${Queue.Arn}/${AWS::AccountId}/${!Literal}"}, None),
        ({"Fn::Sub": ["${Size}-${x}", {"x": {"Ref": "AWS::StackName"}}]}, "small-stack"),
        ({"Fn::Select": ["1", {"Fn::Split": [":", "a:b:c"]}]}, "b"),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "AWS::Region"}, "small"]}, 3),
        ({"Fn::If": ["IsSmall", "yes", "no"]}, "yes"),
        ({"Fn::If": ["Both", "yes", "no"]}, "no"),
        ({"Fn::If": ["Either", "yes", "no"]}, "yes"),
        ({"Fn::Base64": "text"}, "dGV4dA=="),
        ({"Fn::ImportValue": "other:Name"}, "imported"),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [1, {"Ref": "AWS::NoValue"}, 2]}, {"b": [1, 2]}),
        ({"Condition": {"StringEquals": {"a": "b"}}}, {"Condition": {"StringEquals": {"a": "b"}}}),
        ({"Ref": "Queue", "other": 1}, {"Ref": "Queue", "other": 1}),
    ],
)
def test_functions(node: Any, expected: Any) -> None:
    if expected is None:
        expected = "arn:aws:sqs:eu-west-1:123456789012:queue/123456789012/${Literal}"
    assert resolver({"other:Name": "imported"}).value(node) == expected


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"Fn::Cidr": ["10.0.0.0/8", 2, 8]}, "Fn::Cidr in stack stack is not known"),
        ({"Ref": "Bare"}, "parameter Bare of stack stack has no default"),
        ({"Fn::GetAtt": ["Queue", "Colour"]}, "has no attribute Colour"),
        ({"Fn::ImportValue": "nowhere"}, "imports nowhere"),
        ({"Fn::FindInMap": ["Sizes", "us-east-1", "small"]}, "no mapping Sizes"),
        ({"Fn::If": ["Unsaid", 1, 2]}, "no condition Unsaid"),
    ],
)
def test_what_cannot_be_evaluated_says_so(node: Any, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        resolver().value(node)


def test_a_resource_follows_its_condition() -> None:
    assert resolver().included({"Condition": "IsSmall"})
    assert not resolver().included({"Condition": "IsLarge"})


def test_stacks_come_after_those_they_depend_on(assembly_of: Callable[..., Path]) -> None:
    folder = assembly_of(first={}, second={}, third={})
    assert [stack.name for stack in load_assembly(folder)] == ["first", "second", "third"]
    assert load_assembly(folder)[0].assets["step.zip"].is_dir()


def test_nested_stages_are_chosen_by_name(tmp_path: Path, assembly_of: Callable[..., Path]) -> None:
    inner = assembly_of(only={})
    outer = tmp_path / "outer"
    outer.mkdir()
    stages = {
        f"assembly-{name}": {
            "type": "cdk:cloud-assembly",
            "properties": {"directoryName": str(inner), "displayName": name},
        }
        for name in ("dev", "prod")
    }
    (outer / "manifest.json").write_text(json.dumps({"artifacts": stages}))
    assert [stack.name for stack in load_assembly(outer, "dev")] == ["only"]
    with pytest.raises(TemplateError, match="none is named test"):
        load_assembly(outer, "test")


def test_without_an_assembly_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="run `make synth`"):
        load_assembly(tmp_path)
