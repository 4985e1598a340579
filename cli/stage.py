"""A deployed stage: the names of its tables and buckets, as CloudFormation's outputs tell them."""

from __future__ import annotations

from collections.abc import Mapping

import boto3
import click

from candor.clock import DAY
from candor.features.views import FeatureView
from candor.store.commits import Retention
from candor.store.dynamodb import DynamoFeatureStore
from candor.store.registry import Registry
from history.objects import Bucket


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

    @property
    def retention(self) -> Retention:
        """How long items and event ids are kept."""
        days = [int(self.output(name)) for name in ("FeatureRetentionDays", "RedeliveryHorizonDays")]
        return Retention(items=days[0] * DAY, event_ids=days[1] * DAY)

    @property
    def registry(self) -> Registry:
        return Registry(self.output("RegistryTableName"))

    def store(self, view: FeatureView) -> DynamoFeatureStore:
        """The table that holds the view's items."""
        table = "SynchronousFeaturesTableName" if view.synchronous else "FeaturesTableName"
        return DynamoFeatureStore(self.output(table))

    def archive(self, prefix: str) -> Bucket:
        """The archived objects under a prefix."""
        return Bucket(boto3.client("s3"), self.output("ArchiveBucketName"), prefix)

    def _described(self) -> dict[str, str]:
        pages = boto3.client("cloudformation").get_paginator("describe_stacks").paginate()
        return {
            output["OutputKey"]: output["OutputValue"]
            for page in pages
            for stack in page["Stacks"]
            if stack["StackName"].startswith(f"candor-{self.name}-")
            for output in stack.get("Outputs", ())
        }
