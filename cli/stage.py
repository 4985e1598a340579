"""A deployed stage: the names of its tables and buckets, as CloudFormation's outputs tell them."""

from __future__ import annotations

from collections.abc import Mapping

import boto3
import click


class Stage:
    """One stage of the account and region that AWS's own environment names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._outputs: Mapping[str, str] = {}

    def output(self, name: str) -> str:
        """One output. Raises ClickException if the stage has none of this name."""
        self._outputs = self._outputs or self._described()
        if name not in self._outputs:
            raise click.ClickException(
                f"stage {self.name} has no output {name}: is it deployed in this account and region?"
            )
        return self._outputs[name]

    def _described(self) -> dict[str, str]:
        pages = boto3.client("cloudformation").get_paginator("describe_stacks").paginate()
        return {
            output["OutputKey"]: output["OutputValue"]
            for page in pages
            for stack in page["Stacks"]
            if stack["StackName"].startswith(f"candor-{self.name}-")
            for output in stack.get("Outputs", ())
        }
