"""Past decisions judged again: one processing job for each day of the archive, side by side."""

from __future__ import annotations

from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from stacks.constructs.retraining import job_state
from stacks.constructs.sagemaker_jobs import SageMakerJobs

CONCURRENCY = 8
"""Days at a time; an account's quota of processing instances is what bounds it."""


def rescoring(scope: Construct, *, jobs: SageMakerJobs, hours: int) -> sfn.IChainable:
    """Input: `days`, a list of what one job needs each (job, decisions_uri, order_uri, rescored_uri, arguments)."""
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
