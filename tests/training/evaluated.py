"""A small lender trained and evaluated: `evaluated(folder)` makes a valid evaluation.json."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from candor import Definitions, ModelCard
from candor.clock import DAY, format_rfc3339
from candor.model.bundle import Bundle, sha256
from tests.decision_tables import row, table
from tests.training.conftest import AS_OF, REASONS, T0, small_lender
from training.dataset.read import read_training_set
from training.evaluate import job as assess
from training.evaluate.job_output import JobOutput
from training.fit import job as train

POLICY = table([row("score", component="model", score="> cutoff")], {"score": "score"})
CARD = ModelCard(
    name="Small lender",
    owner="Credit risk",
    developer="Data science",
    validator="Model validation",
    tier="low",
    purpose="Tests",
    exclusions=("Nobody",),
    limits=("Tests only",),
)
ROWS = 900


@dataclass(frozen=True)
class EvaluatedLender:
    """Output of the three jobs. `root` is a PROCESSING_ROOT with `input/` and `output/`."""

    root: Path
    bundle: Bundle
    evaluation: dict[str, Any]
    report: str
    card: dict[str, Any]


def evaluated(
    root: Path, *, champion: Bundle | None = None, seeds: tuple[int, ...] = (1, 2), seed: int = 5
) -> EvaluatedLender:
    """Build, train (40 rounds) and evaluate the small lender below `root`; takes a second or two."""
    inputs = root / "input"
    write_dataset(inputs / "dataset", seed=seed)
    trained(inputs, seeds)
    (inputs / "champion").mkdir(parents=True)
    (inputs / "champion/pointer.json").write_text(json.dumps({"bundle": champion and champion.sha}))
    if champion:
        (inputs / "champion/bundle.json").write_bytes(champion.to_bytes())
    out = root / "output/evaluation"
    evaluation = assess.write(assess.read(inputs, small_lender()), CARD, "r1", out)
    return EvaluatedLender(
        root,
        JobOutput.read((inputs / "model/model.tar.gz").read_bytes()).bundle,
        evaluation,
        (out / "report.html").read_text(),
        json.loads((out / "model_card.json").read_text()),
    )


def trained(inputs: Path, seeds: tuple[int, ...] = (1, 2), **settings: Any) -> train.TrainedModels:
    """Train on `inputs/dataset` and pack `inputs/model/model.tar.gz` as SageMaker would."""
    given = {"rounds": 40, "early_stopping": 0, **settings}
    options = train.Settings(run="r1", as_of=format_rfc3339(AS_OF), seeds=seeds, **given)
    data = read_training_set(inputs / "dataset", small_lender())
    result = train.train(data, options, small_lender(), REASONS, POLICY)
    out = inputs.parent / "model"
    train.write(result, out)
    (inputs / "model").mkdir(parents=True, exist_ok=True)
    (inputs / "model/model.tar.gz").write_bytes(packed(out))
    return result


def packed(folder: Path) -> bytes:
    """The folder as a gzip'd tar, as a training job's output is packed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)
    return out.getvalue()


def population(seed: int = 5, rows: int = ROWS) -> dict[str, np.ndarray]:
    """Columns of a data set whose risk rises with lateness; features in the order of `small_lender()`."""
    random = np.random.default_rng(seed)
    q = np.sort(T0 + random.integers(0, 150 * DAY, rows))
    loans = random.integers(0, 6, rows).astype(float)
    late = np.where(loans > 0, random.integers(-3, 12, rows), np.nan).astype(float)
    tries = random.integers(0, 4, rows).astype(float)
    amount = random.integers(1_000, 20_000, rows)
    odds = -2.2 + 0.3 * np.nan_to_num(late, nan=2.0) + 0.2 * tries
    return {
        "q": q,
        "known_at": q + 33 * DAY,
        "bad": (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int8),
        "amount": amount,
        "finance_charge": amount // 10,
        "loans.count.90d": np.minimum(loans, 2.0),
        "loans.count.lifetime": loans,
        "loans.max_days_late.90d": np.where(loans > 1, late, np.nan),
        "loans.max_days_late.lifetime": late,
        "tries.count.7d": tries,
        "request.amount": amount.astype(float),
    }


def write_dataset(
    folder: Path,
    columns: dict[str, Any] | None = None,
    *,
    definitions: Definitions | None = None,
    seed: int = 5,
) -> Path:
    """`dataset.parquet` and `manifest.json` as `training.dataset` writes them."""
    data = population(seed) if columns is None else columns
    rows = len(data["q"])
    ids = [f"chk_{number}" for number in range(rows)]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"row_id": ids, **data}), folder / "dataset.parquet")
    manifest = {
        "format": 1,
        "run": "r1",
        "as_of": format_rfc3339(AS_OF),
        "rows": rows,
        "bads": int(np.sum(data["bad"])),
        "sha256": sha256((folder / "dataset.parquet").read_bytes()),
        "definition_hash": (definitions or small_lender()).hash,
        "window": [format_rfc3339(int(data["q"][0])), format_rfc3339(int(data["q"][-1]))],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
