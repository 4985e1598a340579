"""The parts of the running system that the templates' resources become."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.apigateway.rest_api import Authorizer, GatewayResponse, MockIntegration, RestApi, Route
from local.assembly.template import ACCOUNT
from local.aws.account import EmbeddedAws
from local.aws.eventbridge import compile_pattern
from local.aws.sqs import DurableQueue
from local.deployment.provisioner import function_name
from local.lambda_.queue_poller import QueuePoller
from local.lambda_.service import FunctionSpec, LambdaService
from local.lambda_.stream_poller import StreamMapping, StreamPoller
from local.state import Journal

_CONCURRENCY = 4
_WINDOW_S = 0.02  # batching windows save invocations on AWS; here they only cost time
_STREAM_WINDOW_S = 0.2  # StreamPoller.settle ends a window early


class Deployment:
    """Implements `provisioner.Services`: resources of the account by `aws`; functions, pollers and the API here."""

    def __init__(self, aws: EmbeddedAws, functions: LambdaService, journal: Journal) -> None:
        self._aws, self._functions, self._journal = aws, functions, journal
        self.names: set[str] = set()
        self.pollers: list[tuple[DurableQueue, QueuePoller]] = []
        self.stream_pollers: list[StreamPoller] = []
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
        self.model_packages = aws.model_packages

    def function(self, name: str, properties: Mapping[str, Any], code: Path, layers: list[Path]) -> None:
        """Register a function; its first process starts at its first invocation."""
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

    def event_source(self, source_arn: str, function: str, properties: Mapping[str, Any]) -> None:
        """Poll a queue or a table's stream for a function."""
        if source_arn.split(":")[2] == "dynamodb":
            self._poll_stream(source_arn, function, properties)
            return
        queue = self._aws.durable_queue(source_arn)
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

    def _poll_stream(self, stream_arn: str, function: str, properties: Mapping[str, Any]) -> None:
        """Poll a table's stream; a limit that is absent or -1 is unbounded."""
        age, retries = (
            None if (limit := int(properties.get(name, -1))) < 0 else limit
            for name in ("MaximumRecordAgeInSeconds", "MaximumRetryAttempts")
        )
        patterns = [json.loads(each["Pattern"]) for each in _filters(properties)]
        tests = [compile_pattern(pattern) for pattern in patterns]
        failed = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        dead_letters = self._aws.durable_queue(failed) if failed else None
        mapping = StreamMapping(
            function=function,
            batch_size=int(properties.get("BatchSize", 100)),
            window_s=min(_STREAM_WINDOW_S, float(properties.get("MaximumBatchingWindowInSeconds", 0))),
            partial="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
            bisect=bool(properties.get("BisectBatchOnFunctionError")),
            max_retries=retries,
            max_age_s=age,
            matches=(lambda record: any(test(record) for test in tests)) if tests else lambda _: True,
            give_up=(lambda notice: dead_letters.send([notice])) if dead_letters else lambda _: None,
        )
        stream = self._aws.table_stream(stream_arn)
        self.stream_pollers.append(StreamPoller(stream, mapping, self._functions.invoke, self._journal))

    def api_part(self, api: str, kind: str, logical_id: str, properties: Mapping[str, Any]) -> None:
        """Collect one part of a REST API."""
        self.apis.add(api)
        self._parts.setdefault(kind, []).append((logical_id, properties))

    def rest_api(self, region: str, stage: str) -> RestApi | None:
        """The API of all collected parts; None when the templates declare none."""
        if not self.apis:
            return None
        return RestApi(
            routes=[_route(properties) for _, properties in self._parts.get("method", [])],
            authorizers={
                name: _authorizer(properties) for name, properties in self._parts.get("authorizer", [])
            },
            responses={
                str(properties["ResponseType"]): GatewayResponse.of_template(properties)
                for _, properties in self._parts.get("response", [])
            },
            stage=stage,
            api_id=min(self.apis),
            region=region,
            account=ACCOUNT,
        )


def _filters(properties: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    filters: Sequence[Mapping[str, str]] = properties.get("FilterCriteria", {}).get("Filters", [])
    return filters


def _route(properties: Mapping[str, Any]) -> Route:
    mock = properties["Integration"]["Type"] == "MOCK"
    return Route(
        method=properties["HttpMethod"],
        path=properties["Path"],
        function="" if mock else function_name(str(properties["Integration"]["Uri"])),
        mock=MockIntegration.of_template(properties) if mock else None,
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
