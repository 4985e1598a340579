"""Start or resumption of a training run: stores its spec, pins the champion to compare with, looks up its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from candor.registry.registry import Registry
from candor.registry.runs import EVALUATION, RunFolder, SageMakerJobReader
from candor.registry.training_run import (
    STEPS,
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
        outputs = {
            "dataset": lambda _: folder.holds("dataset/manifest.json"),
            "train": lambda job: folder.holds(packed_key(job)),
            "assess": lambda _: compared and folder.holds(EVALUATION),
        }
        steps: dict[str, RunStep] = {
            name: step(run, name, self.prefix, self.jobs.status, is_there=outputs[name]) for name in STEPS
        }
        return state_of(spec, steps, promote=promote, archive=self.archive, training=self.training)

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
