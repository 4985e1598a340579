"""A training run: the request of a person, a schedule or the command line → the state machine's input.

A run is identified by its name and stored with its first spec and its jobs' results: starting it again resumes it
without repeating finished steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from candor.clock import format_rfc3339, parse_rfc3339
from candor.errors import CandorError, InvalidInput, PolicyError
from candor.model.policy_document import PolicyDocument
from candor.reasons import Reason

SEEDS: Final = [1, 2, 3, 4, 5]
MAX_ATTEMPTS: Final = 9
"""Largest number of jobs per step, over all starts of a run."""

FIRST_WAIT_S: Final = 60
"""Wait (s) before a second attempt; doubled for each further one."""

Kind = Literal["Processing", "Training"]

STEPS: Final[Mapping[str, Kind]] = {"dataset": "Processing", "train": "Training", "assess": "Processing"}
"""Steps that are SageMaker jobs, in order; short, because they end the jobs' names."""

# SageMaker's job names take 63 letters, digits and single hyphens; stage, step and attempt need 23 of them.
_RUN: Final = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,39}")
_MAX_SEEDS: Final = 20

StatusOf = Callable[[Kind, str], str | None]
"""Status of a job by its name (InProgress, Completed, Failed, Stopping, Stopped); None if it does not exist."""


class StepUnderWay(CandorError):
    """A job of an interrupted start of this run is still running; wait for its end."""


class RunExhausted(CandorError):
    """Too many jobs of a step failed; the run cannot be resumed."""


@dataclass(frozen=True)
class RunSpec:
    """Spec of a run: knowledge time `as_of` (RFC 3339) of the training set, one model per seed."""

    run: str
    as_of: str
    seeds: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON form, as stored with the run."""
        return {"run": self.run, "as_of": self.as_of, "seeds": list(self.seeds)}


class PinnedPolicy(msgspec.Struct, frozen=True):
    """Policy of a run: the release's `number` and document, both None before the first release.

    `stale` names the run's jobs that completed with another policy: they are repeated.
    """

    number: int | None = None
    document: PolicyDocument | None = None
    stale: tuple[str, ...] = ()

    @classmethod
    def parse(cls, members: Any) -> PinnedPolicy:
        """Parse the stored form; a run from before releases has none. Raises PolicyError."""
        try:
            return msgspec.convert({} if members is None else members, cls)
        except msgspec.ValidationError as error:
            raise PolicyError(f"the run's policy cannot be read: {error}; start another run") from error

    def as_json(self) -> dict[str, Any]:
        """JSON form, as stored with the run."""
        members: dict[str, Any] = msgspec.to_builtins(self)
        return members

    @property
    def digest(self) -> str | None:
        """Name of the document, or None."""
        return self.document.digest if self.document else None

    def composed(
        self, policy: Mapping[str, Any], reasons: Sequence[Reason]
    ) -> tuple[Mapping[str, Any], tuple[Reason, ...]]:
        """Table and reasons of the bundle to train: the released ones, or the code's before the first release."""
        if self.document is None:
            return policy, tuple(reasons)
        return self.document.policy, self.document.beside(reasons)

    def difference(self, code: PolicyDocument) -> str | None:
        """Notice that the code's policy is not the released one, or None."""
        if self.document is None or self.document.digest == code.digest:
            return None
        return (
            f"the code's table {code.hash[:12]} differs from {self.document.hash[:12]} of release {self.number}, which is "
            "used: `candor policy propose` releases the code's"
            if code.hash != self.document.hash
            else f"the code's reasons of hard rules differ from those of release {self.number}, which are used"
        )


@dataclass(frozen=True)
class RunStep:
    """A job of a run: its name, whether it is done, and its attempt."""

    job: str
    done: bool
    attempt: int


def run_name(request: Mapping[str, Any], now_ms: int) -> str:
    """The requested name, else one from the scheduled moment, else from `now_ms`. Raises InvalidInput."""
    moment = _as_of(request.get("scheduled_at"), now_ms, "scheduled_at")
    run = request.get("run") or "run-" + re.sub(r"[-:]|\..*", "", moment).lower()
    if not isinstance(run, str) or not _RUN.fullmatch(run):
        raise InvalidInput("invalid_field", "Use up to 40 letters, digits and single hyphens.", "run")
    return run


def run_spec(request: Mapping[str, Any], known: Mapping[str, Any] | None, run: str, now_ms: int) -> RunSpec:
    """Spec of a run: the stored one (`known`), else that of the request.

    Defaults: `as_of` is now, `seeds` are 1 to 5. Raises InvalidInput with the field, also if the request contradicts
    the stored spec: it would mix two data sets under one name.
    """
    as_of, seeds = request.get("as_of", request.get("scheduled_at")), request.get("seeds")
    if known is None:
        return RunSpec(run, _as_of(as_of, now_ms), _seeds(seeds or SEEDS))
    spec = RunSpec(run, str(known["as_of"]), tuple(known["seeds"]))
    if as_of is not None and _as_of(as_of, now_ms) != spec.as_of:
        raise InvalidInput(
            "invalid_field", "The run was begun as of another moment: name another run.", "as_of"
        )
    if seeds is not None and _seeds(seeds) != spec.seeds:
        raise InvalidInput("invalid_field", "The run was begun with other seeds: name another run.", "seeds")
    return spec


def promotes(request: Mapping[str, Any]) -> bool:
    """True if the run's model is to be promoted once it passes its gates. Raises InvalidInput."""
    promote = request.get("promote", False)
    if not isinstance(promote, bool):
        raise InvalidInput("invalid_field", "Use true or false.", "promote")
    return promote


def step(
    run: str, name: str, prefix: str, status_of: StatusOf, *, is_there: Callable[[str], bool]
) -> RunStep:
    """The job of a step: the latest one if it completed and its output exists, else the next attempt.

    Job names are never reused: they end in the attempt's number. Raises StepUnderWay, RunExhausted.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        job = f"{prefix}{run}-{name}" + (f"-{attempt}" if attempt > 1 else "")
        status = status_of(STEPS[name], job)
        if status is None:
            return RunStep(job, done=False, attempt=attempt)
        if status in ("InProgress", "Stopping"):
            raise StepUnderWay(f"job {job} is still running: wait for its end")
        if status == "Completed" and is_there(job):
            return RunStep(job, done=True, attempt=attempt)
    raise RunExhausted(f"{MAX_ATTEMPTS} jobs of step {name} failed: fix the cause and name another run")


def state_of(
    spec: RunSpec, steps: Mapping[str, RunStep], *, promote: bool, archive: str, training: str
) -> dict[str, Any]:
    """Input of the state machine: names, moments and URIs of a run; `archive` and `training` are buckets.

    `seeds` is JSON text, because hyperparameters are text.
    """
    uri = run_uri(training, spec.run)
    attempt = max(step.attempt for step in steps.values())
    return {
        "run": spec.run,
        "as_of": spec.as_of,
        "seeds": json.dumps(list(spec.seeds)),
        "promote": promote,
        "archive_uri": f"s3://{archive}/events/",
        "dataset_uri": f"{uri}/dataset",
        "champion_uri": f"{uri}/champion",
        "policy_uri": f"{uri}/policy",
        "model_uri": f"{uri}/model",
        "packed_uri": f"{uri}/{packed_key(steps['train'].job)}",
        "evaluation_uri": f"{uri}/evaluation",
        "steps": {name: {"job": step.job, "done": step.done} for name, step in steps.items()},
        "attempt": attempt,
        "wait_s": FIRST_WAIT_S * 2 ** (attempt - 1),
    }


def run_uri(training: str, run: str) -> str:
    """URI of a run's folder."""
    return f"s3://{training}/runs/{run}"


def packed_key(job: str) -> str:
    """Key of a training job's model below its run's folder; SageMaker gives each job a folder of its own."""
    return f"model/{job}/output/model.tar.gz"


def _as_of(text: Any, now_ms: int, field: str = "as_of") -> str:
    if text is None:
        return format_rfc3339(now_ms)
    try:
        moment = parse_rfc3339(text)
    except (TypeError, ValueError):
        raise InvalidInput("invalid_timestamp", "Use RFC 3339 with an offset.", field) from None
    if moment > now_ms:
        raise InvalidInput("invalid_timestamp", "Use a moment that is not in the future.", field)
    return format_rfc3339(moment)


def _seeds(seeds: Any) -> tuple[int, ...]:
    if (
        not isinstance(seeds, list)
        or not all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
        or len(set(seeds)) != len(seeds)
        or len(seeds) > _MAX_SEEDS
    ):
        raise InvalidInput("invalid_field", f"Use a list of up to {_MAX_SEEDS} different integers.", "seeds")
    return tuple(seeds)
