"""A retraining: what a person, a schedule or the command line asks for → what the state machine's steps need.

A run is known by its name. What was asked for first is kept with it, and so are the ends of its jobs: who starts it
again continues it, and finished steps are not done twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from candor.clock import format_rfc3339, parse_rfc3339
from candor.errors import CandorError, InvalidInput

SEEDS: Final = [1, 2, 3, 4, 5]
MAX_ATTEMPTS: Final = 9
"""So many jobs of one step, in all starts of a run."""

FIRST_WAIT_S: Final = 60
"""Before a second attempt; doubled with each further one."""

Kind = Literal["Processing", "Training"]

STEPS: Final[Mapping[str, Kind]] = {"dataset": "Processing", "train": "Training", "assess": "Processing"}
"""The steps that are SageMaker jobs, in order; short words, for they end the jobs' names."""

# SageMaker's job names take 63 letters, digits and single hyphens; stage, step and attempt need 23 of them.
_RUN: Final = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,39}")
_MAX_SEEDS: Final = 20

StatusOf = Callable[[Kind, str], str | None]
"""SageMaker's word for a job by its name (InProgress, Completed, Failed, Stopping, Stopped); None: there is none."""


class StepUnderWay(CandorError):
    """A job of this run still goes on, from a start that was cut short: its end is waited for."""


class RunExhausted(CandorError):
    """Too many jobs of a step failed: the run is given up."""


@dataclass(frozen=True)
class RunSpec:
    """What a run makes: trained on what was known at `as_of` (RFC 3339), one model for each of `seeds`."""

    run: str
    as_of: str
    seeds: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """As it is kept with the run."""
        return {"run": self.run, "as_of": self.as_of, "seeds": list(self.seeds)}


@dataclass(frozen=True)
class RunStep:
    """A job of a run: its name, whether it is done, and which attempt it is."""

    job: str
    done: bool
    attempt: int


def run_name(request: Mapping[str, Any], now_ms: int) -> str:
    """The name that was asked for, else one by the moment of its schedule, else by the time. Raises InvalidInput."""
    moment = _as_of(request.get("scheduled_at"), now_ms, "scheduled_at")
    run = request.get("run") or "run-" + re.sub(r"[-:]|\..*", "", moment).lower()
    if not isinstance(run, str) or not _RUN.fullmatch(run):
        raise InvalidInput("invalid_field", "Use up to 40 letters, digits and single hyphens.", "run")
    return run


def run_spec(request: Mapping[str, Any], known: Mapping[str, Any] | None, run: str, now_ms: int) -> RunSpec:
    """What a run makes: as it was asked for first, where it was (`known`).

    Missing: `as_of` is now, `seeds` are 1 to 5. Raises InvalidInput with the field, also for a run that is known and asked
    for otherwise: it would mix two data sets under one name.
    """
    as_of, seeds = request.get("as_of", request.get("scheduled_at")), request.get("seeds")
    if known is None:
        return RunSpec(run, _as_of(as_of, now_ms), _seeds(seeds or SEEDS))
    order = RunSpec(run, str(known["as_of"]), tuple(known["seeds"]))
    if as_of is not None and _as_of(as_of, now_ms) != order.as_of:
        raise InvalidInput(
            "invalid_field", "The run was begun as of another moment: name another run.", "as_of"
        )
    if seeds is not None and _seeds(seeds) != order.seeds:
        raise InvalidInput("invalid_field", "The run was begun with other seeds: name another run.", "seeds")
    return order


def promotes(request: Mapping[str, Any]) -> bool:
    """Whether the run's model is to serve if its gates let it. Raises InvalidInput."""
    promote = request.get("promote", False)
    if not isinstance(promote, bool):
        raise InvalidInput("invalid_field", "Use true or false.", "promote")
    return promote


def step(
    run: str, name: str, prefix: str, status_of: StatusOf, *, is_there: Callable[[str], bool]
) -> RunStep:
    """The job that does a step, or did it: the latest if it completed and its output is there, else the next.

    A job's name is never used twice: each attempt ends in its number. Raises StepUnderWay, RunExhausted.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        job = f"{prefix}{run}-{name}" + (f"-{attempt}" if attempt > 1 else "")
        status = status_of(STEPS[name], job)
        if status is None:
            return RunStep(job, done=False, attempt=attempt)
        if status in ("InProgress", "Stopping"):
            raise StepUnderWay(f"job {job} still goes on: its end is waited for")
        if status == "Completed" and is_there(job):
            return RunStep(job, done=True, attempt=attempt)
    raise RunExhausted(f"{MAX_ATTEMPTS} jobs of step {name} failed: mend the cause and name another run")


def state_of(
    order: RunSpec, steps: Mapping[str, RunStep], *, promote: bool, archive: str, training: str
) -> dict[str, Any]:
    """Names, moments and places of a run, as the state machine hands them on; `archive` and `training` are buckets.

    `seeds` is JSON text, because hyperparameters are text.
    """
    place = run_place(training, order.run)
    attempt = max(step.attempt for step in steps.values())
    return {
        "run": order.run,
        "as_of": order.as_of,
        "seeds": json.dumps(list(order.seeds)),
        "promote": promote,
        "archive_uri": f"s3://{archive}/events/",
        "dataset_uri": f"{place}/dataset",
        "champion_uri": f"{place}/champion",
        "model_uri": f"{place}/model",
        "packed_uri": f"{place}/{packed_key(steps['train'].job)}",
        "evaluation_uri": f"{place}/evaluation",
        "steps": {name: {"job": step.job, "done": step.done} for name, step in steps.items()},
        "attempt": attempt,
        "wait_s": FIRST_WAIT_S * 2 ** (attempt - 1),
    }


def run_place(training: str, run: str) -> str:
    """The folder of a run."""
    return f"s3://{training}/runs/{run}"


def packed_key(job: str) -> str:
    """Where below its run's folder a training job leaves its model; SageMaker puts each job's in a folder of its own."""
    return f"model/{job}/output/model.tar.gz"


def _as_of(text: Any, now_ms: int, field: str = "as_of") -> str:
    if text is None:
        return format_rfc3339(now_ms)
    try:
        moment = parse_rfc3339(text)
    except (TypeError, ValueError):
        raise InvalidInput("invalid_timestamp", "Use RFC 3339 with an offset.", field) from None
    if moment > now_ms:
        raise InvalidInput("invalid_timestamp", "What will be known later cannot be trained on.", field)
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
