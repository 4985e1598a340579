"""Where a command works: a deployed stage or the local system, by the names that CloudFormation's outputs tell."""

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

_ELSEWHERE = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
"""What would lead a client past the local system."""


def on_stage(command: F) -> F:
    """Give a command the options that say where it works; it is called with `stage`, a Stage."""

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
    """Let every AWS client of this process speak to the local system. Raises ClickException if none runs."""
    try:
        found: dict[str, str] = json.loads((state / "endpoints.json").read_text())
    except FileNotFoundError:
        found = {}
    if not found or not _answers(found["AWS_ENDPOINT_URL"]):
        raise click.ClickException(f"no local system runs in {state}: start one with `make run`")
    for name in _ELSEWHERE:
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in found.items() if name.startswith("AWS_")})


def _answers(url: str) -> bool:
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname, place.port or 80), timeout=2).close()
    except OSError:
        return False
    return True


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
        """How long event ids are kept."""
        return Retention(event_ids=int(self.output("RedeliveryHorizonDays")) * DAY)

    @property
    def registry(self) -> Registry:
        return Registry(self.output("RegistryTableName"))

    def identity(self) -> str:
        """Who AWS says that we are: an ARN."""
        return str(boto3.client("sts").get_caller_identity()["Arn"])

    def table(self, view: FeatureView) -> str:
        """Name of the table that holds the view's items."""
        return self.output("SynchronousFeaturesTableName" if view.synchronous else "FeaturesTableName")

    def store(self, view: FeatureView) -> DynamoFeatureStore:
        """The view's items."""
        return DynamoFeatureStore(self.table(view))

    def archive(self, prefix: str) -> Bucket:
        """The archived objects under a prefix."""
        return Bucket(boto3.client("s3"), self.output("ArchiveBucketName"), prefix)

    @functools.cached_property
    def archive_bucket(self) -> ArchiveBucket:
        """The archive and its index beside it."""
        s3 = boto3.client("s3", config=Config(max_pool_connections=READERS))
        return ArchiveBucket(s3, self.output("ArchiveBucketName"))

    @functools.cached_property
    def archive_index(self) -> ArchiveIndex:
        """The archive by owner."""
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
