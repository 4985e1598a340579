"""Finished steps of a training, kept so that an interrupted job goes on where it was and ends with the same bundle.

SageMaker copies `/opt/ml/checkpoints` to S3 while the job runs and back when a spot instance is replaced. A step is one
fitted model or one trial: LightGBM cannot go on inside one with the same random numbers, so at most one is repeated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Checkpoints:
    """`folder` is of one data set, one code and one choice of settings; None keeps nothing."""

    folder: Path | None = None

    @classmethod
    def of(cls, root: Path, inputs: Mapping[str, Any]) -> Checkpoints:
        """Those below `root` that were made of the same inputs; nothing is kept where `root` is no folder."""
        if not root.is_dir():
            return cls()
        name = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
        return cls(root / name)

    def once(self, step: str, make: Callable[[], str]) -> str:
        """The step's result: what an earlier attempt kept, else made now and kept. A file is there whole or not at all."""
        if self.folder is None:
            return make()
        path = self.folder / step
        if path.is_file():
            print(f"checkpoint: {step} is done already")
            return path.read_text()
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(made)
        partial.replace(path)
        return made
