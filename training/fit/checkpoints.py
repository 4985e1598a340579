"""Checkpoints of a training's finished steps: an interrupted job continues and ends with the same bundle.

SageMaker copies `/opt/ml/checkpoints` to S3 while the job runs and back when a spot instance is replaced. A step is one
fitted model or one trial: LightGBM cannot resume inside one with the same random numbers, so at most one is repeated.
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
    """Checkpoints in `folder`, which is specific to one data set, code and settings; None keeps nothing."""

    folder: Path | None = None

    @classmethod
    def of(cls, root: Path, inputs: Mapping[str, Any]) -> Checkpoints:
        """Checkpoints below `root` for these inputs; nothing is kept if `root` is not a folder."""
        if not root.is_dir():
            return cls()
        name = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
        return cls(root / name)

    def once(self, step: str, make: Callable[[], str]) -> str:
        """The step's result: read from an earlier attempt, else made now and written atomically."""
        if self.folder is None:
            return make()
        path = self.folder / step
        if path.is_file():
            print(f"checkpoint: {step} is already done")
            return path.read_text()
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(made)
        partial.replace(path)
        return made
