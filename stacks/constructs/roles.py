"""Roles of services that act for the stage, and the statements added to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from constructs import Construct


def allow(role: iam.Role, *actions: str, on: Sequence[str], **conditions: Any) -> None:
    """Permit `actions` on exactly the resource ARNs `on`, under IAM conditions by operator (StringEquals=…)."""
    role.add_to_policy(
        iam.PolicyStatement(actions=list(actions), resources=list(on), conditions=conditions or None)
    )


def service_role(
    scope: Construct, construct_id: str, service: str, description: str | None = None
) -> iam.Role:
    """A role that `service` (such as "scheduler") may assume for this account alone."""
    account = {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}
    principal = iam.ServicePrincipal(f"{service}.amazonaws.com", conditions=account)
    return iam.Role(scope, construct_id, assumed_by=principal, description=description)


def allow_sagemaker_job(role: iam.Role, repository: ecr.IRepository, namespaces: Sequence[str]) -> None:
    """Permit the calls SageMaker itself makes with a job's role: logs, metrics in `namespaces`, the image."""
    group = cdk.Stack.of(role).format_arn(
        service="logs",
        resource="log-group",
        resource_name="/aws/sagemaker/*",
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )
    verbs = ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents")
    allow(role, *(f"logs:{verb}" for verb in verbs), on=[group])
    allow(role, "cloudwatch:PutMetricData", on=["*"], StringEquals={"cloudwatch:namespace": list(namespaces)})
    repository.grant_pull(role)
