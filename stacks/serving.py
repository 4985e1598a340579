"""The HTTP API: deciding checkouts, reading decisions, publishing events, and the answers of the gateway itself."""

from __future__ import annotations

import json
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.constructs.fixed_answers import add_health, refuse_other_methods
from stacks.constructs.function import HouseFunction
from stacks.constructs.log_group import HouseLogGroup
from stacks.constructs.problems import add_gateway_responses
from stacks.ingestion import LENDER, IngestionStack, only_as
from stacks.settings import StageSettings
from stacks.stage import StageStack
from stacks.storage import StorageStack

ALIAS = "live"
"""The scorer's alias, which the API calls; a rollback moves it to the previous version."""

_ACCESS_LOG = {
    "request_id": "$context.requestId",
    "time": "$context.requestTime",
    "method": "$context.httpMethod",
    "route": "$context.resourcePath",
    "status": "$context.status",
    "merchant_id": "$context.authorizer.merchant_id",
    "latency_ms": "$context.responseLatency",
    "integration_ms": "$context.integration.latency",
    "error": "$context.error.responseType",
}


class ServingStack(StageStack):
    """The REST API, its authoriser and the four functions behind its routes.

    Public routes are resources under /v1, so that a caller's path is the same below the deployed ApiUrl, a custom
    domain and the local system.
    """

    unit = "serving"

    def __init__(
        self,
        scope: Construct,
        settings: StageSettings,
        *,
        storage: StorageStack,
        ingestion: IngestionStack,
    ) -> None:
        super().__init__(scope, settings)
        self.score = self._score(storage)
        self.score_alias = self.score.add_alias(ALIAS)
        self.authorize = self._authorize(storage)
        self.publish_events = self._publish_events(ingestion)
        self.show_decision = self._reader("ShowDecision", "show_decision", storage)
        self.show_record = self._reader("ShowRecord", "show_record", storage)
        self.api = self._api()
        add_gateway_responses(self.api)
        self._routes()
        plan = self._usage_plan()
        self.api.node.try_remove_child("Endpoint")  # CDK's own output, which duplicates ApiUrl
        url = f"https://{self.api.rest_api_id}.execute-api.{self.region}.{self.url_suffix}"
        self.add_outputs(ApiUrl=f"{url}/{settings.stage}", MerchantsUsagePlanId=plan.usage_plan_id)

    def _score(self, storage: StorageStack) -> HouseFunction:
        layers = self.layers
        function = HouseFunction(
            self,
            "Score",
            name="score",
            layers=[layers.core, layers.lender, layers.runtime, layers.lightgbm],
            memory_mb=self.settings.score_memory_mb,
            # Includes a cold start; a warm request is bounded by DEADLINE_MS.
            timeout_s=self.settings.deadline_ms // 1000 + 10,
            environment={
                "FEATURES_TABLE": storage.features.table_name,
                "SYNCHRONOUS_TABLE": storage.synchronous_features.table_name,
                "DECISIONS_TABLE": storage.decisions.table_name,
                "REGISTRY_TABLE": storage.registry.table_name,
                "BUNDLES_BUCKET": storage.bundles.bucket_name,
                "DECISION_KEY_SECRET": storage.decision_key.secret_arn,
                "REPLAY_CLOCK": self.settings.replay_clock,
                "DEADLINE_MS": str(self.settings.deadline_ms),
                "DECISION_RETENTION_DAYS": str(self.settings.decision_retention_days),
                "REDELIVERY_HORIZON_DAYS": str(self.settings.redelivery_horizon_days),
            },
        )
        if self.settings.score_snapshots == "on":
            function.start_from_snapshots()
        synchronous = storage.synchronous_features.table_arn
        read = [storage.features.table_arn, synchronous, storage.registry.table_arn]
        function.allow("dynamodb:BatchGetItem", on=read)
        # TransactWriteItems (a decision with its synchronous items) is authorised as the writes in it.
        write = [storage.decisions.table_arn, synchronous]
        function.allow("dynamodb:GetItem", "dynamodb:PutItem", on=write)
        function.allow("dynamodb:ConditionCheckItem", on=synchronous)
        function.allow("s3:GetObject", on=storage.bundles.arn_for_objects("bundles/*"))
        function.allow("secretsmanager:GetSecretValue", on=storage.decision_key.secret_arn)
        return function

    def _authorize(self, storage: StorageStack) -> HouseFunction:
        function = HouseFunction(
            self,
            "Authorize",
            name="authorize",
            layers=[self.layers.core, self.layers.runtime],
            timeout_s=10,
            environment={"MERCHANTS_TABLE": storage.merchants.table_name},
        )
        function.allow("dynamodb:GetItem", on=storage.merchants.table_arn)
        return function

    def _publish_events(self, ingestion: IngestionStack) -> HouseFunction:
        function = HouseFunction(
            self,
            "PublishEvents",
            name="publish_events",
            layers=[self.layers.core, self.layers.lender, self.layers.runtime],
            timeout_s=20,
            environment={"EVENT_BUS_NAME": ingestion.bus.event_bus_name},
        )
        # Only the bus says when a live event became known: no caller may load history through the API.
        function.allow("events:PutEvents", on=ingestion.bus.event_bus_arn, when=only_as(LENDER))
        return function

    def _reader(self, construct_id: str, name: str, storage: StorageStack) -> HouseFunction:
        """A function that reads decisions by id, and may do nothing else."""
        function = HouseFunction(
            self,
            construct_id,
            name=name,
            layers=[self.layers.core, self.layers.lender, self.layers.runtime],
            timeout_s=15,
            environment={"DECISIONS_TABLE": storage.decisions.table_name},
        )
        function.allow("dynamodb:GetItem", on=storage.decisions.table_arn)
        return function

    def _api(self) -> apigateway.RestApi:
        access_log = HouseLogGroup(self, "ApiAccessLogs")
        return apigateway.RestApi(
            self,
            "Api",
            description=f"candor {self.settings.stage}: credit decisions at the checkout",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            # The authoriser, not the caller, names the merchant whose throttle and quota a request uses.
            api_key_source_type=apigateway.ApiKeySourceType.AUTHORIZER,
            # The account's single logging role must outlive the stack that set it.
            cloud_watch_role=True,
            cloud_watch_role_removal_policy=cdk.RemovalPolicy.RETAIN,
            deploy_options=apigateway.StageOptions(
                stage_name=self.settings.stage,
                throttling_rate_limit=self.settings.requests_per_second,
                throttling_burst_limit=self.settings.requests_burst,
                access_log_destination=apigateway.LogGroupLogDestination(access_log),
                access_log_format=apigateway.AccessLogFormat.custom(json.dumps(_ACCESS_LOG)),
                logging_level=apigateway.MethodLoggingLevel.ERROR,
                # Bodies contain what applicants bought: they are never logged.
                data_trace_enabled=False,
                metrics_enabled=True,
                tracing_enabled=True,
            ),
        )

    def _routes(self) -> None:
        authorizer = apigateway.RequestAuthorizer(
            self,
            "MerchantKey",
            handler=self.authorize,
            identity_sources=[apigateway.IdentitySource.header("Authorization")],
            results_cache_ttl=cdk.Duration.seconds(60),
        )
        merchants: dict[str, Any] = {
            "authorizer": authorizer,
            "authorization_type": apigateway.AuthorizationType.CUSTOM,
            "api_key_required": True,
        }
        signed: dict[str, Any] = {"authorization_type": apigateway.AuthorizationType.IAM}
        public = self.api.root.add_resource("v1")
        decisions = public.add_resource("decisions")
        decisions.add_method("POST", _proxy(self.score_alias), **merchants)
        decision = decisions.add_resource("{id}")
        decision.add_method("GET", _proxy(self.show_decision), **merchants)
        events = public.add_resource("events")
        events.add_method("POST", _proxy(self.publish_events), **signed)
        record = self.api.root.add_resource("internal").add_resource("decisions").add_resource("{id}")
        record.add_method("GET", _proxy(self.show_record), **signed)
        health = add_health(self.api.root)
        for resource, method in (
            (decisions, "POST"),
            (decision, "GET"),
            (events, "POST"),
            (record, "GET"),
            (health, "GET"),
        ):
            refuse_other_methods(resource, [method])

    def _usage_plan(self) -> apigateway.UsagePlan:
        """The limits of one merchant, who has a key in this plan; its value is the merchant's usage key."""
        settings = self.settings
        return self.api.add_usage_plan(
            "Merchants",
            description=f"candor {settings.stage}: what one merchant may ask",
            api_stages=[apigateway.UsagePlanPerApiStage(api=self.api, stage=self.api.deployment_stage)],
            throttle=apigateway.ThrottleSettings(
                rate_limit=settings.merchant_requests_per_second, burst_limit=settings.merchant_requests_burst
            ),
            quota=apigateway.QuotaSettings(
                limit=settings.merchant_requests_per_day, period=apigateway.Period.DAY
            ),
        )


def _proxy(function: lambda_.IFunction) -> apigateway.LambdaIntegration:
    return apigateway.LambdaIntegration(function, allow_test_invoke=False)
