"""Functions: Python 3.13 on arm64, each with its own role and log group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.constructs.layers import source_code
from stacks.constructs.log_group import HouseLogGroup
from stacks.settings import StageSettings
from stacks.stage import StageStack
from stacks.toolchain import ROOT


class HouseFunction(lambda_.Function):
    """The function of `functions/<name>`, permitted to write its own logs and traces and nothing else.

    `environment` is added to the variables common to all functions. Permissions are added by `allow`, so that each
    function's permissions are listed beside its declaration.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        layers: Sequence[lambda_.ILayerVersion],
        environment: Mapping[str, str],
        timeout_s: int,
        memory_mb: int | None = None,
    ) -> None:
        settings = StageStack.enclosing(scope).settings
        log_group = HouseLogGroup(scope, f"{construct_id}Logs")
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
            # The previous version is retained: a rollback points the alias at it.
            current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.RETAIN),
        )

    def start_from_snapshots(self) -> None:
        """Enable SnapStart on published versions; it excludes provisioned concurrency."""
        self._resource.snap_start = lambda_.CfnFunction.SnapStartProperty(apply_on="PublishedVersions")

    def give_disk(self, megabytes: int) -> None:
        """Enlarge /tmp beyond the default 512 MB."""
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
        "OMP_NUM_THREADS": "1",  # LightGBM's threads would spin-wait on each other for one row
        "POWERTOOLS_SERVICE_NAME": name,
        "POWERTOOLS_METRICS_NAMESPACE": "Candor",
        "POWERTOOLS_LOG_LEVEL": settings.log_level,
    }
