"""The one way a function is deployed here: Python 3.13 on arm64, its own role, its own log group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.constructs.layers import source_code
from stacks.constructs.retention import log_retention
from stacks.settings import StageSettings
from stacks.toolchain import ROOT


class HouseFunction(lambda_.Function):
    """The function of `functions/<name>`, allowed to write its own logs and traces and nothing else yet.

    `environment` comes on top of what every function gets. Grants are added by `allow`, so that each
    function's permissions are read in one place, next to what it does.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        settings: StageSettings,
        layers: Sequence[lambda_.ILayerVersion],
        environment: Mapping[str, str],
        timeout_s: int,
        memory_mb: int | None = None,
    ) -> None:
        log_group = logs.LogGroup(
            scope,
            f"{construct_id}Logs",
            retention=log_retention(settings.log_retention_days),
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        role = iam.Role(
            scope,
            f"{construct_id}Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"candor {settings.stage}: function {name}",
        )
        log_group.grant_write(role)
        super().__init__(
            scope,
            construct_id,
            description=f"candor {settings.stage}: {name}",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            handler="handler.handler",
            code=source_code(ROOT / "functions" / name),
            layers=list(layers),
            environment={**_common_environment(name, settings), **environment},
            memory_size=memory_mb or settings.memory_mb,
            timeout=cdk.Duration.seconds(timeout_s),
            role=role,
            log_group=log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel[
                settings.log_level.replace("WARNING", "WARN")
            ],
            system_log_level_v2=lambda_.SystemLogLevel.WARN,
            tracing=lambda_.Tracing.ACTIVE,
            # The version before stays: a rollback points the alias at it.
            current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.RETAIN),
        )

    def start_from_snapshots(self) -> None:
        """SnapStart, on every version that is published; not together with provisioned concurrency."""
        self._resource.snap_start = lambda_.CfnFunction.SnapStartProperty(apply_on="PublishedVersions")

    def give_disk(self, megabytes: int) -> None:
        """More room in /tmp than the 512 MB that every function has."""
        self._resource.ephemeral_storage = lambda_.CfnFunction.EphemeralStorageProperty(size=megabytes)

    @property
    def _resource(self) -> lambda_.CfnFunction:
        resource = self.node.default_child
        if not isinstance(resource, lambda_.CfnFunction):
            raise TypeError("a function's default child is its resource")
        return resource

    def allow(
        self, *actions: str, on: str | Sequence[str], when: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """Permit `actions` on exactly the resource ARNs `on`, under IAM conditions (`when`)."""
        resources = [on] if isinstance(on, str) else list(on)
        statement = iam.PolicyStatement(actions=list(actions), resources=resources, conditions=when)
        self.add_to_role_policy(statement)


def _common_environment(name: str, settings: StageSettings) -> dict[str, str]:
    return {
        "STAGE": settings.stage,
        "OMP_NUM_THREADS": "1",  # LightGBM's threads would wait for each other, at full speed, for one row
        "POWERTOOLS_SERVICE_NAME": name,
        "POWERTOOLS_METRICS_NAMESPACE": "Candor",
        "POWERTOOLS_LOG_LEVEL": settings.log_level,
    }
