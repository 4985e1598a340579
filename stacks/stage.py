"""The bases of stacks and constructs: the name, settings, layers, protection and outputs of one stage."""

from __future__ import annotations

from typing import ClassVar

import aws_cdk as cdk
from constructs import Construct, IConstruct

from stacks.constructs.layers import HouseLayers
from stacks.settings import StageSettings


class StageStack(cdk.Stack):
    """One unit of a stage, deployed as `candor-<stage>-<unit>`.

    The stage's termination protection covers it if it is `stateful`: tables, queues and the API's address are state.
    """

    unit: ClassVar[str]
    stateful: ClassVar[bool] = True

    def __init__(self, scope: Construct, settings: StageSettings) -> None:
        super().__init__(
            scope,
            f"candor-{settings.stage}-{self.unit}",
            termination_protection=settings.termination_protection if self.stateful else None,
        )
        self.settings = settings
        self.layers = HouseLayers(self, "Layers")
        # CDK declares a dependency on each function's role, which the reference to it already implies.
        self.template_options.metadata = {"cfn-lint": {"config": {"ignore_checks": ["W3005"]}}}

    @staticmethod
    def enclosing(construct: IConstruct) -> StageStack:
        """The stack of a construct. Raises TypeError when it is not a StageStack."""
        stack = cdk.Stack.of(construct)
        if not isinstance(stack, StageStack):
            raise TypeError(f"{construct.node.path} must be in a StageStack, not in a {type(stack).__name__}")
        return stack

    def add_outputs(self, **values: str) -> None:
        """Declare the stack's outputs by name."""
        for name, value in values.items():
            cdk.CfnOutput(self, name, value=value)


class StageConstruct(Construct):
    """A part of a StageStack, with the stack's settings and layers."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self._stack = StageStack.enclosing(self)
        self._settings, self._layers = self._stack.settings, self._stack.layers
