"""Reading a cloud assembly: stacks in order of dependency, their assets, CloudFormation's intrinsic functions."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.errors import TemplateError

ACCOUNT = "123456789012"
REGION = "eu-west-1"
"""Account and region of a stack that names none."""

_NO_VALUE: Any = object()
_VARIABLE = re.compile(r"\$\{(!?)([^}]+)\}")


@dataclass
class Resource:
    """A created resource: its physical id (`Ref`) and its attributes (`Fn::GetAtt`)."""

    ref: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stack:
    """One template and the folders of its assets."""

    name: str
    account: str
    region: str
    template: Mapping[str, Any]
    assets: Mapping[str, Path]

    @property
    def resources(self) -> Mapping[str, Mapping[str, Any]]:
        declared: Mapping[str, Mapping[str, Any]] = self.template.get("Resources", {})
        return declared


def load_assembly(folder: Path, stage: str = "dev") -> list[Stack]:
    """The stacks in `folder`, each after its dependencies; of several nested stages, the one named `stage`."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise TemplateError(f"{folder} holds no synthesized app: run `make synth`")
    artifacts: Mapping[str, Any] = json.loads(path.read_text()).get("artifacts", {})
    nested = {k: v["properties"] for k, v in artifacts.items() if v["type"] == "cdk:cloud-assembly"}
    if len(nested) > 1:
        nested = {
            k: v for k, v in nested.items() if stage in (v.get("displayName"), k.removeprefix("assembly-"))
        }
        if not nested:
            raise TemplateError(f"{folder} has several stages and none is named {stage}: name one of them")
    stacks = [_stack(folder, artifacts, name) for name in _in_order(artifacts)]
    for properties in nested.values():
        stacks += load_assembly(folder / properties["directoryName"], stage)
    return stacks


def _in_order(artifacts: Mapping[str, Any]) -> list[str]:
    done: list[str] = []

    def visit(name: str) -> None:
        for needed in artifacts[name].get("dependencies", []):
            if needed in artifacts:
                visit(needed)
        if name not in done and artifacts[name]["type"] == "aws:cloudformation:stack":
            done.append(name)

    for name in artifacts:
        visit(name)
    return done


def _stack(folder: Path, artifacts: Mapping[str, Any], artifact: str) -> Stack:
    described = artifacts[artifact]
    properties = described["properties"]
    account, _, region = described.get("environment", "").removeprefix("aws://").partition("/")
    assets: dict[str, Path] = {}
    for needed in [*described.get("dependencies", []), *properties.get("additionalDependencies", [])]:
        if artifacts.get(needed, {}).get("type") == "cdk:asset-manifest":
            assets |= _assets(folder, artifacts[needed]["properties"]["file"])
    return Stack(
        name=properties.get("stackName", artifact),
        account=ACCOUNT if account in ("", "unknown-account") else account,
        region=REGION if region in ("", "unknown-region") else region,
        template=json.loads((folder / properties["templateFile"]).read_text()),
        assets=assets,
    )


def _assets(folder: Path, file: str) -> Iterator[tuple[str, Path]]:
    """Object keys as in templates, each with the folder that it was zipped from."""
    for described in json.loads((folder / file).read_text()).get("files", {}).values():
        for destination in described["destinations"].values():
            yield destination["objectKey"], folder / described["source"]["path"]


class Resolver:
    """Evaluates one template's values. `resource` returns a logical id's resource, created if needed."""

    def __init__(self, stack: Stack, exports: Mapping[str, Any], resource: Callable[[str], Resource]) -> None:
        self._stack, self._exports, self._resource = stack, exports, resource
        self._pseudo: dict[str, Any] = {
            "AWS::AccountId": stack.account,
            "AWS::Region": stack.region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": stack.name,
            "AWS::StackId": f"arn:aws:cloudformation:{stack.region}:{stack.account}:stack/{stack.name}/local",
            "AWS::NotificationARNs": [],
            "AWS::NoValue": _NO_VALUE,
        }
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Condition": self._condition,
            "Fn::GetAtt": self._get_att,
            "Fn::Join": lambda v: str(v[0]).join(str(self.value(part)) for part in self.value(v[1])),
            "Fn::Sub": self._sub,
            "Fn::ImportValue": self._import,
            "Fn::Select": lambda v: self.value(v[1])[int(self.value(v[0]))],
            "Fn::Split": lambda v: str(self.value(v[1])).split(v[0]),
            "Fn::FindInMap": self._find_in_map,
            "Fn::If": lambda v: self.value(v[1] if self._condition(v[0]) else v[2]),
            "Fn::Equals": lambda v: self.value(v[0]) == self.value(v[1]),
            "Fn::Not": lambda v: not self.value(v[0]),
            "Fn::And": lambda v: all(self.value(part) for part in v),
            "Fn::Or": lambda v: any(self.value(part) for part in v),
            "Fn::Base64": lambda v: base64.b64encode(str(self.value(v)).encode()).decode(),
        }

    def value(self, node: Any) -> Any:
        """`node` with intrinsic functions evaluated and AWS::NoValue removed."""
        if isinstance(node, list):
            return [item for item in map(self.value, node) if item is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            name, argument = next(iter(node.items()))
            if name in self._functions and not (name == "Condition" and not isinstance(argument, str)):
                return self._functions[name](argument)
            if name.startswith("Fn::"):
                raise TemplateError(
                    f"{name} in stack {self._stack.name} is not known: add it to local/assembly/template.py"
                )
        evaluated = {key: self.value(child) for key, child in node.items()}
        return {key: item for key, item in evaluated.items() if item is not _NO_VALUE}

    def included(self, declared: Mapping[str, Any]) -> bool:
        """Whether the Condition of a resource or output holds."""
        return "Condition" not in declared or self._condition(declared["Condition"])

    def _ref(self, name: str) -> Any:
        if name in self._pseudo:
            return self._pseudo[name]
        parameters = self._stack.template.get("Parameters", {})
        if name in parameters:
            if "Default" not in parameters[name]:
                raise TemplateError(
                    f"parameter {name} of stack {self._stack.name} has no default: give it one"
                )
            return parameters[name]["Default"]
        return self._resource(name).ref

    def _get_att(self, argument: Any) -> Any:
        name, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
        attributes = self._resource(name).attributes
        if attribute not in attributes:
            kind = self._stack.resources[name]["Type"]
            raise TemplateError(
                f"{kind} ({name} in stack {self._stack.name}) has no attribute {attribute} here"
            )
        return attributes[attribute]

    def _sub(self, argument: Any) -> str:
        text, variables = (argument, {}) if isinstance(argument, str) else argument

        def replace(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return f"${{{name}}}"
            if name in variables:
                return str(self.value(variables[name]))
            return str(self._get_att(name) if "." in name else self._ref(name))

        return _VARIABLE.sub(replace, text)

    def _import(self, argument: Any) -> Any:
        name = self.value(argument)
        if name not in self._exports:
            raise TemplateError(f"stack {self._stack.name} imports {name}, which no stack before it exports")
        return self._exports[name]

    def _find_in_map(self, argument: list[Any]) -> Any:
        entry: Any = self._stack.template.get("Mappings", {})
        for key in argument[:3]:
            entry = entry.get(self.value(key)) if isinstance(entry, Mapping) else None
        if entry is None:
            raise TemplateError(f"stack {self._stack.name} has no mapping {argument[0]} for this region")
        return entry

    def _condition(self, name: str) -> bool:
        conditions = self._stack.template.get("Conditions", {})
        if name not in conditions:
            raise TemplateError(f"stack {self._stack.name} has no condition {name}")
        return bool(self.value(conditions[name]))
