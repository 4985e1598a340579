"""`python -m training.train`: the labelled training set → models, calibration, cut-off: one bundle.

Script mode under SageMaker's training contract: channel `dataset` (SM_CHANNEL_DATASET), results in SM_MODEL_DIR,
hyperparameters in SM_HPS; without these variables the container's own paths below `/opt/ml` are used.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from candor.errors import CandorError
from candor.features.views import Definitions
from candor.model.bundle import Bundle, Calibration
from candor.model.engine import Booster
from candor.model.soundness import require_sound
from candor.reasons import Catalogue, Reason
from training.dataset import DATASET, MANIFEST
from training.evaluate import auc, summary
from training.learn import (
    PARAMETERS,
    ROUNDS,
    CannotLearn,
    Floats,
    Split,
    break_even,
    calibrate,
    expected_profit,
    fit,
    near_cutoff,
    raw_scores,
    reason_reference,
    require_both,
    split_by_time,
)

ML = Path("/opt/ml")


@dataclass(frozen=True)
class Settings:
    """Hyperparameters. Shares are of the amount lent; the first of `seeds` is the one that serves."""

    run: str
    as_of: str
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    late_share: float = 0.2
    merchant_fee: float = 0.05
    loss_given_bad: float = 0.45

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Settings:
        """From SageMaker's hyperparameters, whose values may be JSON text. CannotLearn for a wrong one."""
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            raise CannotLearn(f"hyperparameters: do not know {', '.join(unknown)}")
        if "run" not in given or "as_of" not in given:
            raise CannotLearn("hyperparameters: give run and as_of")
        try:
            read = {name: float(given[name]) for name in given if name not in ("run", "as_of", "seeds")}
            seeds = given.get("seeds", cls.seeds)
            numbers = tuple(int(seed) for seed in (json.loads(seeds) if isinstance(seeds, str) else seeds))
        except (TypeError, ValueError) as error:
            raise CannotLearn(f"hyperparameters: {error}") from error
        if not numbers or len(set(numbers)) != len(numbers):
            raise CannotLearn("hyperparameters: seeds must be a list of different integers")
        return cls(run=str(given["run"]), as_of=str(given["as_of"]), seeds=numbers, **read)


@dataclass(frozen=True)
class TrainingSet:
    """What `training.dataset` wrote: columns in row order and the manifest."""

    manifest: Mapping[str, Any]
    values: Floats
    bad: NDArray[np.int8]
    q: NDArray[np.int64]
    known_at: NDArray[np.int64]
    amount: NDArray[np.int64]
    charge: NDArray[np.int64]


def read_training_set(folder: Path, definitions: Definitions) -> TrainingSet:
    """Read and verify: the bytes the manifest names, made of exactly these definitions. Raises CannotLearn."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        data = (folder / DATASET).read_bytes()
    except (OSError, ValueError) as error:
        raise CannotLearn(f"channel dataset in {folder}: {error}") from error
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        raise CannotLearn(f"{DATASET} is not the file that {MANIFEST} names: build the data set again")
    if manifest["definition_hash"] != definitions.hash:
        raise CannotLearn(
            "the data set was built with other definitions than this image holds: build it again"
        )
    table = pq.read_table(folder / DATASET)
    column = {name: table[name].to_numpy() for name in table.column_names}
    values = np.column_stack([column[name] for name in definitions.features])
    return TrainingSet(
        manifest,
        values,
        column["bad"],
        column["q"],
        column["known_at"],
        column["amount"],
        column["finance_charge"],
    )


def train(
    data: TrainingSet,
    settings: Settings,
    definitions: Definitions,
    reasons: Sequence[Reason],
    policy: Mapping[str, Any],
) -> tuple[Bundle, dict[int, str]]:
    """Validate and calibrate on the latest part, then fit every seed on all; the bundle and each seed's model text."""
    require_both(data.bad, "data set")
    split = split_by_time(data.q, data.known_at, settings.late_share)
    require_both(data.bad[split.early], "earlier part")
    require_both(data.bad[split.late], "latest part")
    print(
        f"train: {len(data.bad)} checkouts; {len(split.early)} earlier ones against {len(split.late)} latest"
    )
    calibration, cutoff, metrics = _validate(data, settings, split, definitions)
    models = {}
    for seed in settings.seeds:
        models[seed] = fit(data.values, data.bad, definitions.features, seed)
        print(f"train: seed {seed} fitted on all")
    text = {seed: model.model_to_string() for seed, model in models.items()}
    served = settings.seeds[0]
    raw = raw_scores(models[served], data.values)
    pd = np.array([calibration.probability(one) for one in raw.tolist()])
    catalogue = Catalogue(reasons, definitions.features)
    with Booster(text[served]) as engine:
        reference = reason_reference(engine, data.values, pd, cutoff, catalogue)
    bundle = Bundle(
        model=text[served],
        features=definitions.features,
        definition_hash=definitions.hash,
        calibration=calibration,
        cutoff=cutoff,
        reason_reference=reference,
        policy=policy,
        reasons=tuple(reasons),
        metrics=metrics,
        lineage=_lineage(data, settings) | {"reason_reference": _compared_with(pd, cutoff)},
    )
    return bundle, text


def _validate(
    data: TrainingSet, settings: Settings, split: Split, definitions: Definitions
) -> tuple[Calibration, float, dict[str, Any]]:
    """Fit each seed on the earlier part; calibrate and measure the one that will serve on the latest."""
    outcome = data.bad[split.late]
    by_seed: dict[int, Floats] = {}
    for seed in settings.seeds:
        model = fit(data.values[split.early], data.bad[split.early], definitions.features, seed)
        by_seed[seed] = raw_scores(model, data.values[split.late])
        print(f"validate: seed {seed} auc={auc(outcome, by_seed[seed]):.4f}")
    raw = by_seed[settings.seeds[0]]
    calibration = calibrate(raw, outcome)
    pd = np.array([calibration.probability(one) for one in raw.tolist()])
    amount, charge = data.amount[split.late], data.charge[split.late]
    loss = settings.loss_given_bad
    cutoff = break_even(amount, charge, settings.merchant_fee, loss)
    income = cutoff * loss / (1.0 - cutoff)
    per_seed = {str(seed): auc(outcome, scores) for seed, scores in by_seed.items()}
    metrics = summary(outcome, pd) | {
        "auc": float(np.mean(list(per_seed.values()))),
        "auc_served": per_seed[str(settings.seeds[0])],
        "auc_per_seed": per_seed,
        "approval_rate": float((pd <= cutoff).mean()),
        "profit_per_unit": expected_profit(outcome, pd, cutoff, income, loss),
        "profit_per_unit_all": expected_profit(outcome, pd, 1.0, income, loss),
        "period_from": split.at,
    }
    return calibration, cutoff, metrics


def _compared_with(pd: Floats, cutoff: float) -> dict[str, Any]:
    """Who reasons are told against: method, number and scores of the applicants near the cut-off."""
    near = sorted(pd[near_cutoff(pd, cutoff)].tolist())
    return {
        "method": "12 CFR 1002.9, comment 9(b)(2)-5 (a): mean of applicants at or slightly above the minimum passing score",
        "applicants": len(near),
        "lowest_pd": near[0],
        "highest_pd": near[-1],
    }


def _lineage(data: TrainingSet, settings: Settings) -> dict[str, Any]:
    manifest = data.manifest
    return {
        "run": settings.run,
        "as_of": settings.as_of,
        "rows": manifest["rows"],
        "bads": manifest["bads"],
        "dataset_sha256": manifest["sha256"],
        "window": manifest["window"],
        "seeds": list(settings.seeds),
        "parameters": {**PARAMETERS, "rounds": ROUNDS},
        "economics": {"merchant_fee": settings.merchant_fee, "loss_given_bad": settings.loss_given_bad},
        "lightgbm": lightgbm.__version__,
    }


def write(bundle: Bundle, models: Mapping[int, str], out: Path) -> None:
    """`bundle.json`, `seeds/<n>.txt`, `metrics.json`: what SageMaker packs into model.tar.gz."""
    (out / "seeds").mkdir(parents=True, exist_ok=True)
    for seed, text in models.items():
        (out / "seeds" / f"{seed}.txt").write_text(text)
    (out / "metrics.json").write_text(json.dumps(dict(bundle.metrics), indent=1, sort_keys=True) + "\n")
    (out / "bundle.json").write_bytes(bundle.to_bytes())


def _hyperparameters() -> Mapping[str, Any]:
    text = os.environ.get("SM_HPS") or (ML / "input/config/hyperparameters.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def _fail(message: str) -> int:
    """Tell SageMaker why: the first line of `output/failure` becomes the job's FailureReason."""
    print(f"error: {message}", file=sys.stderr)
    folder = Path(os.environ.get("SM_OUTPUT_DIR", ML / "output"))
    if folder.is_dir():
        (folder / "failure").write_text(message)
    return 1


def main() -> int:
    """The container's entry."""
    from lender import DEFINITIONS, REASONS, policy  # the lender's own code, as this image holds it

    started = time.monotonic()
    try:
        settings = Settings.parse(_hyperparameters())
        folder = Path(os.environ.get("SM_CHANNEL_DATASET", ML / "input/data/dataset"))
        data = read_training_set(folder, DEFINITIONS)
        bundle, models = train(data, settings, DEFINITIONS, REASONS, policy())
        require_sound(bundle, DEFINITIONS)
    except (CannotLearn, CandorError) as error:
        return _fail(str(error))
    write(bundle, models, Path(os.environ.get("SM_MODEL_DIR", ML / "model")))
    print(
        f"bundle {bundle.sha[:12]}: auc={bundle.metrics['auc']:.4f} mean of {len(models)} seeds, "
        f"cut-off {bundle.cutoff:.3f}, {time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
