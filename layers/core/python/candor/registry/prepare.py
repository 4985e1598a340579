"""Start or resumption of a training run: stores its spec, pins champion and released policy, looks up its jobs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from candor.registry.artifacts import read_policy
from candor.registry.registry import Registry
from candor.registry.runs import EVALUATION, RunFolder, SageMakerJobReader
from candor.registry.training_run import (
    STEPS,
    PinnedPolicy,
    RunStep,
    packed_key,
    promotes,
    run_name,
    run_spec,
    state_of,
    step,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Prepares runs; `archive`, `training` and `bundles` are buckets, `prefix` starts the jobs' names."""

    s3: S3Client
    jobs: SageMakerJobReader
    registry: Registry
    archive: str
    training: str
    bundles: str
    prefix: str

    def prepare(self, request: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        """State of a run at its start. Raises InvalidInput, StepUnderWay, RunExhausted, StoreUnavailable."""
        run, promote = run_name(request, now_ms), promotes(request)
        folder = RunFolder(self.s3, self.training, run)
        spec = run_spec(request, folder.spec(), run, now_ms)
        spec = run_spec({}, folder.keep_spec(spec.as_json()), run, now_ms)
        compared = self._pin_champion(folder, run)
        steps = self._pin_policy(folder, lambda stale: self._steps(folder, run, stale, compared=compared))
        return state_of(spec, steps, promote=promote, archive=self.archive, training=self.training)

    def _steps(
        self, folder: RunFolder, run: str, stale: Collection[str], *, compared: bool
    ) -> dict[str, RunStep]:
        outputs = {
            "dataset": lambda _: folder.holds("dataset/manifest.json"),
            "train": lambda job: job not in stale and folder.holds(packed_key(job)),
            "assess": lambda job: job not in stale and compared and folder.holds(EVALUATION),
        }
        return {
            name: step(run, name, self.prefix, self.jobs.status, is_there=outputs[name]) for name in STEPS
        }

    def _pin_policy(
        self, folder: RunFolder, steps_of: Callable[[Collection[str]], dict[str, RunStep]]
    ) -> dict[str, RunStep]:
        """Copy the released policy to the run; returns its steps. Jobs that took another policy are repeated."""
        stored = folder.policy()
        pinned, released = PinnedPolicy.parse(stored), self._released()
        steps = steps_of(pinned.stale)
        if stored is not None and pinned.digest == released.digest:
            return steps
        made_with_it = () if pinned.digest == released.digest else _made_of_policy(steps)
        folder.set_policy(replace(released, stale=(*pinned.stale, *made_with_it)).as_json())
        return steps_of((*pinned.stale, *made_with_it))

    def _released(self) -> PinnedPolicy:
        policy = self.registry.pointer().policy
        if policy is None:
            return PinnedPolicy()
        return PinnedPolicy(policy.number, read_policy(self.s3, self.bundles, policy.digest))

    def _pin_champion(self, folder: RunFolder, run: str) -> bool:
        """Copy the champion to the run; True if an existing evaluation compared with it.

        Once the run's own bundle is champion, the comparison stays as it is.
        """
        serving = self.registry.pointer().bundle
        known = self.registry.registration(serving) if serving else None
        if folder.has_champion() and (folder.champion() == serving or (known and known.run == run)):
            return True
        folder.set_champion(serving, self.bundles)
        return False


def _made_of_policy(steps: Mapping[str, RunStep]) -> tuple[str, ...]:
    """Completed jobs whose output holds the policy."""
    return tuple(steps[name].job for name in ("train", "assess") if steps[name].done)
