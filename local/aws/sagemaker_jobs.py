"""SageMaker's container contract without containers: training and processing jobs as processes of this Python.

`/opt/ml` is a folder of the job. Training: channels under input/data, hyperparameters, SM_* variables, the model
folder packed to model.tar.gz (the contract of SageMaker's training toolkit). Processing: inputs and outputs at their
LocalPath, whose root is the variable PROCESSING_ROOT.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from local.processes import spawn, stop
from local.state import Journal

ML = "/opt/ml"
_DEFAULT_RUNTIME_S = 86_400
_REASON_CHARACTERS = 1024
CUT_SHORT = "the local system ended while the job ran"


class UnknownJob(LookupError):
    """No job of that name exists."""


class JobExists(ValueError):
    """A job of that name exists already."""


class ObjectStore(Protocol):
    """The objects that jobs read and write."""

    def fetch(self, bucket: str, prefix: str, folder: Path) -> int:
        """Copy a prefix into a folder; returns the number of objects."""

    def put(self, bucket: str, key: str, content: bytes) -> None: ...


class JobFailed(Exception):
    """The job's program failed; the message is the failure reason."""


class ContainerJob:
    """One job; `parameters` are those of CreateTrainingJob or CreateProcessingJob."""

    def __init__(self, kind: str, parameters: Mapping[str, Any], arn: str) -> None:
        self.kind, self.parameters, self.arn = kind, dict(parameters), arn
        self.name = str(parameters[f"{kind}JobName"])
        self.status, self.failure_reason = "InProgress", ""
        self.started, self.ended = time.time(), 0.0
        self._done = threading.Event()

    def finish(self, status: str, reason: str = "") -> None:
        self.status, self.failure_reason, self.ended = status, reason[-_REASON_CHARACTERS:], time.time()
        self._done.set()

    def as_json(self) -> dict[str, Any]:
        """The job as the journal stores it."""
        return {
            "parameters": self.parameters,
            "arn": self.arn,
            "status": self.status,
            "reason": self.failure_reason,
            "started": self.started,
            "ended": self.ended,
        }

    @classmethod
    def from_json(cls, kind: str, stored: Mapping[str, Any]) -> ContainerJob:
        """A stored job; one that was still running has failed."""
        job = cls(kind, stored["parameters"], stored["arn"])
        ended = stored["status"] != "InProgress"
        job.finish(stored["status"], stored["reason"]) if ended else job.finish("Failed", CUT_SHORT)
        job.started, job.ended = stored["started"], stored["ended"] or job.ended
        return job

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the job's end; False after `timeout_s`."""
        return self._done.wait(timeout_s)

    def describe(self) -> dict[str, Any]:
        """The response of DescribeTrainingJob or DescribeProcessingJob; times in epoch seconds."""
        kind = self.kind
        description = {**self.parameters, f"{kind}JobArn": self.arn, f"{kind}JobStatus": self.status}
        description |= {
            "CreationTime": self.started,
            f"{kind}StartTime": self.started,
            "LastModifiedTime": self.ended,
        }
        if self.ended:
            description[f"{kind}EndTime"] = self.ended
        if kind == "Training":
            description |= {
                "SecondaryStatus": self.status,
                "ModelArtifacts": {"S3ModelArtifacts": self.model_uri()},
            }
        if self.failure_reason:
            description["FailureReason"] = self.failure_reason
        return description

    def result(self) -> dict[str, Any]:
        """The description as Step Functions returns it: times in epoch milliseconds."""
        times = ("CreationTime", "LastModifiedTime", f"{self.kind}StartTime", f"{self.kind}EndTime")
        return {k: int(v * 1000) if k in times else v for k, v in self.describe().items()}

    def model_uri(self) -> str:
        output = str(self.parameters["OutputDataConfig"]["S3OutputPath"]).rstrip("/")
        return f"{output}/{self.name}/output/model.tar.gz"


class ContainerJobs:
    """Runs jobs and stores them across restarts: a name is used once.

    `environment` are the variables of every job's process, beside the job's own.
    """

    def __init__(
        self,
        folder: Path,
        logs: Path,
        code: Sequence[Path],
        arn_prefix: str,
        journal: Journal,
        store: Callable[[], ObjectStore],
        environment: Callable[[], Mapping[str, str]],
    ) -> None:
        self._folder, self._logs, self._code, self._arn_prefix = folder, logs, code, arn_prefix
        self._store, self._environment, self._journal = store, environment, journal
        self._jobs = {
            (str(kind), str(name)): ContainerJob.from_json(str(kind), json.loads(stored))
            for kind, name, stored in journal.rows("SELECT kind, name, description FROM jobs")
        }
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def start(self, kind: str, parameters: Mapping[str, Any]) -> ContainerJob:
        """Start a job of `kind` "Training" or "Processing" in a thread. Raises JobExists."""
        name = str(parameters[f"{kind}JobName"])
        job = ContainerJob(kind, parameters, f"{self._arn_prefix}:{kind.lower()}-job/{name}")
        with self._lock:
            if (kind, name) in self._jobs:
                raise JobExists(f"Job name must be unique within an account, and {name} already exists.")
            self._jobs[kind, name] = job
        self._store_job(job)
        run = self._train if kind == "Training" else self._process
        threading.Thread(target=self._guard, args=(job, run), name=f"job {name}", daemon=True).start()
        return job

    def get(self, kind: str, name: str) -> ContainerJob:
        try:
            return self._jobs[kind, name]
        except KeyError:
            raise UnknownJob(f"Could not find {kind.lower()} job '{name}'.") from None

    def _store_job(self, job: ContainerJob) -> None:
        with self._journal.transaction() as db:
            row = (job.kind, job.name, json.dumps(job.as_json()))
            db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", row)

    def _end(self, job: ContainerJob, status: str, reason: str = "") -> None:
        """Store the job's end, then release its waiters."""
        if not self._closed:
            ended = ContainerJob(job.kind, job.parameters, job.arn)
            ended.finish(status, reason)
            ended.started = job.started
            self._store_job(ended)
        job.finish(status, reason)

    def _guard(self, job: ContainerJob, run: Callable[[ContainerJob, Path], None]) -> None:
        root = self._folder / job.name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        try:
            run(job, root)
        except JobFailed as failed:
            self._end(job, "Failed", str(failed))
        except Exception as error:  # noqa: BLE001  an error must fail the job, not the system
            self._end(job, "Failed", f"InternalServerError: {type(error).__name__}: {error}")
        else:
            self._end(job, "Completed")
        finally:
            shutil.rmtree(root, ignore_errors=True)

    # Training

    def _train(self, job: ContainerJob, root: Path) -> None:
        parameters = job.parameters
        for folder in ("input/config", "model", "output/data"):
            (root / folder).mkdir(parents=True)
        variables = {
            "SM_MODEL_DIR": str(root / "model"),
            "SM_OUTPUT_DIR": str(root / "output"),
            "SM_OUTPUT_DATA_DIR": str(root / "output/data"),
            "SM_HPS": json.dumps(_hyperparameters(parameters)),
            "SM_CURRENT_HOST": "algo-1",
            "SM_HOSTS": '["algo-1"]',
            "SM_NUM_CPUS": str(os.cpu_count() or 1),
            "TRAINING_JOB_NAME": job.name,
            "TRAINING_JOB_ARN": job.arn,
        }
        for channel in parameters.get("InputDataConfig") or []:
            folder = root / "input/data" / channel["ChannelName"]
            self._download(channel["DataSource"]["S3DataSource"]["S3Uri"], folder)
            variables[f"SM_CHANNEL_{channel['ChannelName'].upper()}"] = str(folder)
        config = root / "input/config"
        (config / "hyperparameters.json").write_text(json.dumps(parameters.get("HyperParameters") or {}))
        (config / "resourceconfig.json").write_text(
            json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]})
        )
        self._run(job, root, _training_command(parameters), variables)
        self._upload_model(job, root)

    def _upload_model(self, job: ContainerJob, root: Path) -> None:
        archive = root / "model.tar.gz"
        with tarfile.open(archive, "w:gz") as packed:
            for path in sorted((root / "model").iterdir()):
                packed.add(path, arcname=path.name)
        bucket, key = split_uri(job.model_uri())
        self._store().put(bucket, key, archive.read_bytes())

    # Processing

    def _process(self, job: ContainerJob, root: Path) -> None:
        parameters = job.parameters
        for item in parameters.get("ProcessingInputs") or []:
            source = item["S3Input"]
            self._download(source["S3Uri"], _local(root, source["LocalPath"]))
        outputs = [
            o["S3Output"] for o in (parameters.get("ProcessingOutputConfig") or {}).get("Outputs") or []
        ]
        for output in outputs:
            _local(root, output["LocalPath"]).mkdir(parents=True, exist_ok=True)
        application = parameters["AppSpecification"]
        command = [*application.get("ContainerEntrypoint", []), *application.get("ContainerArguments", [])]
        self._run(job, root, command, {"PROCESSING_ROOT": str(root / "processing")})
        for output in outputs:
            self._upload(_local(root, output["LocalPath"]), output["S3Uri"])

    def _upload(self, folder: Path, uri: str) -> None:
        bucket, prefix = split_uri(uri)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix.rstrip('/')}/{path.relative_to(folder).as_posix()}".lstrip("/")
                self._store().put(bucket, key, path.read_bytes())

    # Both

    def _download(self, uri: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        bucket, prefix = split_uri(uri)
        if not self._store().fetch(bucket, prefix, folder):
            raise JobFailed(f"ClientError: Data download failed: no objects found under {uri}")

    def _run(
        self, job: ContainerJob, root: Path, command: Sequence[str], variables: Mapping[str, str]
    ) -> None:
        log = self._logs / f"{job.name}.log"
        limit = (job.parameters.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds", _DEFAULT_RUNTIME_S)
        with log.open("wb") as output, self._lock:
            if self._closed:
                raise JobFailed("the local system is stopping")
            process = spawn(
                _local_command(command, root), env=self._variables(job, variables), output=output, cwd=root
            )
            self._running.add(process)
        try:
            code = process.wait(float(limit))
        except subprocess.TimeoutExpired:
            raise JobFailed(f"MaxRuntimeExceeded: the job ran for more than {limit} s, see {log}") from None
        finally:
            stop(process)
            with self._lock:
                self._running.discard(process)
        if code != 0:
            raise JobFailed(_reason(root, log, code))

    def _variables(self, job: ContainerJob, variables: Mapping[str, str]) -> dict[str, str]:
        own = {name: str(value) for name, value in (job.parameters.get("Environment") or {}).items()}
        path = os.pathsep.join(str(folder) for folder in self._code)
        return {**os.environ, **self._environment(), "PYTHONPATH": path, **own, **variables}

    def close(self) -> None:
        """Stop all running jobs."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            stop(process)


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an S3 URI, `s3://…` or path-style `https://s3.<region>…/…` as the CDK writes it."""
    scheme, _, rest = uri.partition("://")
    if scheme == "https":
        rest = rest.partition("/")[2]
    bucket, _, key = rest.partition("/")
    return bucket, key


def _hyperparameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameter values as in the training toolkit: parsed where they are JSON."""
    values: dict[str, Any] = {}
    for name, text in (parameters.get("HyperParameters") or {}).items():
        try:
            values[name] = json.loads(text)
        except (TypeError, ValueError):
            values[name] = text
    return values


def _training_command(parameters: Mapping[str, Any]) -> list[str]:
    algorithm = parameters["AlgorithmSpecification"]
    command = [*algorithm.get("ContainerEntrypoint", []), *algorithm.get("ContainerArguments", [])]
    if not command:
        raise JobFailed(
            "ClientError: AlgorithmSpecification needs a ContainerEntrypoint to run without containers"
        )
    return command


def _local(root: Path, path: str) -> Path:
    return root / Path(path).relative_to(ML)


def _local_command(command: Sequence[str], root: Path) -> list[str]:
    """The command with this Python, and `/opt/ml` replaced by the job's folder."""
    if not command:
        raise JobFailed("ClientError: the job names no entrypoint to run without containers")
    program, *arguments = command
    python = program.rpartition("/")[2] in ("python", "python3")
    moved = [f"{root}{text[len(ML) :]}" if text.startswith(f"{ML}/") else text for text in arguments]
    return [sys.executable if python else program, *moved]


def _reason(root: Path, log: Path, code: int) -> str:
    for name in ("output/failure", "output/message"):
        if (root / name).is_file():
            return f"AlgorithmError: {(root / name).read_text(errors='replace').strip()}, exit code: {code}"
    lines = log.read_text(errors="replace").strip().splitlines()[-5:]
    return f"AlgorithmError: {' | '.join(lines) or 'no output'}, exit code: {code}"
