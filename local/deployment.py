"""Where resources of the templates become parts of the running system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.aws import EmbeddedAws
from local.pollers import QueuePoller
from local.queues import DurableQueue
from local.resources import function_name
from local.rest_api import Authorizer, GatewayResponse, RestApi, Route
from local.runtime import FunctionSpec, LambdaService
from local.template import ACCOUNT

_CONCURRENCY = 4
_WINDOW_S = 0.02  # a batching window saves invocations; here it would only cost time


class Deployment:
    """Implements `resources.Services`: AWS' own resources by `aws`, functions, pollers and the API here."""

    def __init__(self, aws: EmbeddedAws, functions: LambdaService) -> None:
        self._aws, self._functions = aws, functions
        self.names: set[str] = set()
        self.pollers: list[tuple[DurableQueue, QueuePoller]] = []
        self.apis: set[str] = set()
        self._parts: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        self.table, self.bucket, self.secret, self.parameter = (
            aws.table,
            aws.bucket,
            aws.secret,
            aws.parameter,
        )
        self.queue, self.bus, self.rule, self.delivery_stream = (
            aws.queue,
            aws.bus,
            aws.rule,
            aws.delivery_stream,
        )
        self.topic, self.state_machine = aws.topic, aws.state_machine

    def function(self, name: str, properties: Mapping[str, Any], code: Path, layers: list[Path]) -> None:
        """Make a function invocable; it starts with its first invocation."""
        variables = properties.get("Environment", {}).get("Variables", {})
        self._functions.register(
            FunctionSpec(
                name=name,
                handler=properties["Handler"],
                code=code,
                layers=tuple(layers),
                environment={key: str(value) for key, value in variables.items()},
                timeout_s=int(properties.get("Timeout", 3)),
                memory_mb=int(properties.get("MemorySize", 128)),
                concurrency=int(properties.get("ReservedConcurrentExecutions", _CONCURRENCY)),
            )
        )
        self.names.add(name)

    def event_source(self, queue_arn: str, function: str, properties: Mapping[str, Any]) -> None:
        """Poll a queue for a function."""
        queue = self._aws.durable_queue(queue_arn)
        poller = QueuePoller(
            queue,
            function,
            batch_size=int(properties.get("BatchSize", 10)),
            window_s=min(_WINDOW_S, float(properties.get("MaximumBatchingWindowInSeconds", 0))),
            invoke=self._functions.invoke,
            concurrency=int(properties.get("ScalingConfig", {}).get("MaximumConcurrency", 2)),
            partial="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
        )
        self.pollers.append((queue, poller))

    def api_part(self, api: str, kind: str, logical_id: str, properties: Mapping[str, Any]) -> None:
        """Collect a part of a REST API until all are known."""
        self.apis.add(api)
        self._parts.setdefault(kind, []).append((logical_id, properties))

    def rest_api(self, region: str, stage: str) -> RestApi | None:
        """All collected parts as one API on one port; None when the templates declare none."""
        if not self.apis:
            return None
        return RestApi(
            routes=[_route(properties) for _, properties in self._parts.get("method", [])],
            authorizers={name: _authorizer(given) for name, given in self._parts.get("authorizer", [])},
            responses={
                str(given["ResponseType"]): GatewayResponse.of_template(given)
                for _, given in self._parts.get("response", [])
            },
            stage=stage,
            api_id=min(self.apis),
            region=region,
            account=ACCOUNT,
        )


def _route(properties: Mapping[str, Any]) -> Route:
    return Route(
        method=properties["HttpMethod"],
        path=properties["Path"],
        function=function_name(str(properties["Integration"]["Uri"])),
        authorizer=properties.get("AuthorizerId"),
        auth=properties.get("AuthorizationType", "NONE"),
    )


def _authorizer(properties: Mapping[str, Any]) -> Authorizer:
    sources = str(properties.get("IdentitySource", "method.request.header.Authorization"))
    return Authorizer(
        function=function_name(str(properties["AuthorizerUri"])),
        identity_sources=tuple(source.strip() for source in sources.split(",")),
        ttl_s=int(properties.get("AuthorizerResultTtlInSeconds", 300)),
    )
