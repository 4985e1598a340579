"""Rescoring of past decisions: one processing job per day of the archive, in parallel."""

from __future__ import annotations

from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from stacks.constructs.retraining import job_state
from stacks.constructs.sagemaker_jobs import SageMakerJobDefinitions

CONCURRENCY = 8
"""Concurrent days, within an account's quota of processing instances."""


def rescoring(scope: Construct, *, jobs: SageMakerJobDefinitions, hours: int) -> sfn.IChainable:
    """The states. Input: `days`, one item per job (job, decisions_uri, order_uri, rescored_uri, arguments)."""
    each = sfn.DistributedMap(
        scope,
        "EveryDay",
        items_path="$.days",
        max_concurrency=CONCURRENCY,
        map_execution_type=sfn.StateMachineType.STANDARD,  # an express one cannot wait for a job
        tolerated_failure_count=0,
        result_path=sfn.JsonPath.DISCARD,
    )
    each.item_processor(job_state(scope, "RescoreDay", "createProcessingJob", jobs.rescoring_job(), hours))
    return each.next(sfn.Succeed(scope, "Rescored"))
