"""Target of a command: a deployed stage or the local system, with the names from CloudFormation's outputs."""

from __future__ import annotations

import functools
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
import click
from botocore.config import Config

from candor.clock import DAY
from candor.features.views import FeatureView
from candor.registry.registry import Registry
from candor.store.dynamodb import DynamoFeatureStore
from candor.updates import Retention
from history.archive.objects import Bucket
from history.index.bucket import ArchiveBucket
from history.index.read import READERS, ArchiveIndex

F = TypeVar("F", bound=Callable[..., Any])

_DIVERTING = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
"""Environment variables that would direct a client past the local system."""


def on_stage(command: F) -> F:
    """Add the options that name the stage; the command is called with `stage`, a Stage."""

    @functools.wraps(command)
    def called(*args: Any, stage: str, local: bool, state: Path, **rest: Any) -> Any:
        if local:
            enter_local(state)
        return command(*args, stage=Stage(stage), **rest)

    for option in (
        click.option(
            "--state",
            type=click.Path(path_type=Path),
            default=".local",
            show_default=True,
            help="With --local: the folder of the running system.",
        ),
        click.option("--local", is_flag=True, help="Work on the local system that `make run` started."),
        click.option("--stage", default="dev", show_default=True, help="The deployed stage."),
    ):
        called = option(called)
    return called  # type: ignore[return-value] # click's options do not keep the type


def enter_local(state: Path) -> None:
    """Direct every AWS client of this process to the local system. Raises ClickException if none runs."""
    try:
        endpoints: dict[str, str] = json.loads((state / "endpoints.json").read_text())
    except FileNotFoundError:
        endpoints = {}
    if not endpoints or not _answers(endpoints["AWS_ENDPOINT_URL"]):
        raise click.ClickException(f"no local system runs in {state}: start one with `make run`")
    for name in _DIVERTING:
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in endpoints.items() if name.startswith("AWS_")})


def _answers(url: str) -> bool:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port or 80), timeout=2).close()
    except OSError:
        return False
    return True


class Stage:
    """Stage in the account and region of AWS's own environment."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._outputs: Mapping[str, str] = {}
        self._stores: dict[str, DynamoFeatureStore] = {}

    def output(self, name: str) -> str:
        """Value of a CloudFormation output. Raises ClickException if the stage has none of this name."""
        self._outputs = self._outputs or self._described()
        if name not in self._outputs:
            raise click.ClickException(
                f"stage {self.name} has no output {name}: is it deployed in this account and region?"
            )
        return self._outputs[name]

    @property
    def retention(self) -> Retention:
        """Retention of event ids."""
        return Retention(event_ids=int(self.output("RedeliveryHorizonDays")) * DAY)

    @property
    def registry(self) -> Registry:
        return Registry(self.output("RegistryTableName"))

    def identity(self) -> str:
        """ARN of the caller, from STS."""
        return str(boto3.client("sts").get_caller_identity()["Arn"])

    def table(self, view: FeatureView) -> str:
        """Name of the table of the view's items."""
        return self.output("SynchronousFeaturesTableName" if view.synchronous else "FeaturesTableName")

    def store(self, view: FeatureView) -> DynamoFeatureStore:
        """Store of the view's items; each table's client is made once, since that takes a tenth of a second."""
        table = self.table(view)
        if table not in self._stores:
            self._stores[table] = DynamoFeatureStore(table)
        return self._stores[table]

    def archive(self, prefix: str) -> Bucket:
        """Archived objects under a prefix."""
        return Bucket(boto3.client("s3"), self.output("ArchiveBucketName"), prefix)

    @functools.cached_property
    def archive_bucket(self) -> ArchiveBucket:
        """Bucket of the archive and its index."""
        s3 = boto3.client("s3", config=Config(max_pool_connections=READERS))
        return ArchiveBucket(s3, self.output("ArchiveBucketName"))

    @functools.cached_property
    def archive_index(self) -> ArchiveIndex:
        """Archive by owner."""
        return ArchiveIndex(self.archive_bucket)

    def _described(self) -> dict[str, str]:
        pages = boto3.client("cloudformation").get_paginator("describe_stacks").paginate()
        return {
            output["OutputKey"]: output["OutputValue"]
            for page in pages
            for stack in page["Stacks"]
            if stack["StackName"].startswith(f"candor-{self.name}-")
            for output in stack.get("Outputs", ())
        }
