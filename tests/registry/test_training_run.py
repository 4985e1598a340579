"""Job of a step: the latest one if it completed with output, else a new one with an unused name."""

from __future__ import annotations

import pytest

from candor.registry.training_run import MAX_ATTEMPTS, STEPS, RunExhausted, RunStep, StepUnderWay, step

PREFIX = "candor-prod-"


def next_step(statuses: list[str], *, there: bool = True) -> RunStep:
    names = [f"{PREFIX}r1-train" + (f"-{n}" if n > 1 else "") for n in range(1, len(statuses) + 1)]
    status_of = dict(zip(names, statuses, strict=True))
    return step("r1", "train", PREFIX, lambda kind, job: status_of.get(job), is_there=lambda job: there)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], RunStep("candor-prod-r1-train", done=False, attempt=1)),
        (["Completed"], RunStep("candor-prod-r1-train", done=True, attempt=1)),
        (["Failed"], RunStep("candor-prod-r1-train-2", done=False, attempt=2)),
        (["Stopped", "Completed"], RunStep("candor-prod-r1-train-2", done=True, attempt=2)),
        (["Failed", "Stopped"], RunStep("candor-prod-r1-train-3", done=False, attempt=3)),
    ],
)
def test_a_completed_job_is_reused_and_a_failed_ones_name_is_not(statuses, expected):
    assert next_step(statuses) == expected


def test_a_job_whose_output_is_gone_is_done_again():
    assert next_step(["Completed"], there=False) == RunStep("candor-prod-r1-train-2", done=False, attempt=2)


@pytest.mark.parametrize("status", ["InProgress", "Stopping"])
def test_a_job_that_outlived_its_execution_is_waited_for(status):
    with pytest.raises(StepUnderWay, match="job candor-prod-r1-train-2 is still running"):
        next_step(["Failed", status])


def test_a_run_is_given_up_at_last():
    with pytest.raises(RunExhausted, match="9 jobs of step train failed"):
        next_step(["Failed"] * MAX_ATTEMPTS)


def test_the_longest_name_of_a_job_is_one_that_sagemaker_takes():
    longest = max(len(f"{PREFIX}{'r' * 40}-{name}-{MAX_ATTEMPTS}") for name in STEPS)
    assert longest <= 63
