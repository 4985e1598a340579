"""Jobs are stored across restarts: a name is used once, and an interrupted job has failed."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.aws.sagemaker_jobs import CUT_SHORT, ContainerJobs, JobExists, UnknownJob
from local.state import Journal
from local.system import LocalSystem


class Nothing:
    """A store that holds no objects."""

    def fetch(self, bucket: str, prefix: str, folder: Path) -> int:
        return 0

    def put(self, bucket: str, key: str, content: bytes) -> None:
        raise AssertionError(key)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


def jobs(folder: Path, journal: Journal) -> ContainerJobs:
    (folder / "logs").mkdir(exist_ok=True)
    return ContainerJobs(folder / "jobs", folder / "logs", [], "arn", journal, Nothing, dict)


def job_parameters(name: str, program: str) -> dict[str, object]:
    entry = {"ContainerEntrypoint": ["python", "-c", program]}
    return {"ProcessingJobName": name, "AppSpecification": {"ImageUri": "i", **entry}}


def test_a_job_is_known_after_the_systems_end_and_its_name_is_used_once(
    tmp_path: Path, journal: Journal
) -> None:
    before = jobs(tmp_path, journal)
    for name, program in (("good", "pass"), ("bad", "raise SystemExit('no signal')")):
        assert before.start("Processing", job_parameters(name, program)).wait(60)
    before.close()
    after = jobs(tmp_path, journal)
    good, bad = after.get("Processing", "good"), after.get("Processing", "bad")
    assert (good.status, bad.status) == ("Completed", "Failed")
    assert "no signal" in bad.describe()["FailureReason"]
    assert good.describe()["CreationTime"] == before.get("Processing", "good").describe()["CreationTime"]
    with pytest.raises(JobExists, match="good already exists"):
        after.start("Processing", job_parameters("good", "pass"))
    with pytest.raises(UnknownJob):
        after.get("Training", "good")


def test_a_job_that_was_under_way_has_failed(tmp_path: Path, journal: Journal) -> None:
    started = jobs(tmp_path, journal)
    job = started.start("Processing", job_parameters("long", "import time; time.sleep(600)"))
    earlier = jobs(tmp_path, journal).get("Processing", "long")
    assert (earlier.status, earlier.failure_reason) == ("Failed", CUT_SHORT)
    started.close()
    assert job.wait(60)


@pytest.mark.system
def test_a_name_that_was_used_fails_the_state_as_sagemaker_does(small_assembly: Path, tmp_path: Path) -> None:
    with LocalSystem(small_assembly, tmp_path / "state", 0, say=lambda _: None) as system:
        states, jobs_of = system.client("stepfunctions"), system.client("sagemaker")
        ended = []
        for _ in range(2):
            given = json.dumps({"run": "twice", "script": "raise SystemExit('no signal')"})
            begun = states.start_execution(stateMachineArn=system.outputs["MachineArn"], input=given)
            arn = begun["executionArn"]
            while (execution := states.describe_execution(executionArn=arn))["status"] == "RUNNING":
                time.sleep(0.05)
            ended.append(execution)
        assert "SageMaker.ResourceInUseException" not in ended[0]["cause"]
        assert "SageMaker.ResourceInUseException" in ended[1]["cause"]
        assert "twice-prepare already exists" in ended[1]["cause"]
        with pytest.raises(jobs_of.exceptions.ClientError, match="already exists"):
            jobs_of.create_processing_job(
                **job_parameters("twice-prepare", "pass"), RoleArn="arn:aws:iam::1:role/r"
            )
