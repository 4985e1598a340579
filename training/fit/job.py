"""`python -m training.fit`: the labelled training set → one bundle of model, calibration and cut-off.

Script mode under SageMaker's training contract: channels `dataset` and `policy` (SM_CHANNEL_DATASET, SM_CHANNEL_POLICY),
results in SM_MODEL_DIR, hyperparameters in SM_HPS; without these variables the container's own paths below `/opt/ml` are used.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
from msgspec import structs

from candor.errors import CandorError, PolicyError
from candor.features.definitions import Definitions
from candor.model.bundle import Bundle, Calibration
from candor.model.lightgbm import Booster
from candor.model.policy_document import PolicyDocument
from candor.model.soundness import require_sound
from candor.principal_reasons import reason_basis, require_statements
from candor.reasons import Catalogue, Monotone, Reason
from candor.registry.training_run import PinnedPolicy
from training.dataset.read import TrainingSet, read_training_set
from training.dataset.split import CannotLearn, Floats, Split, require_both, split_by_time
from training.fit.calibrate import break_even, calibrate, expected_profit, mean_contributions, near_cutoff
from training.fit.hosts import Hosts
from training.fit.hyperparameters import Settings
from training.fit.recipe import GAIN, Recipe, raw_scores
from training.fit.steps import RunContext, TrainingPlan, run_context
from training.metrics.calibration import probabilities
from training.metrics.scores import auc, summary

ML: Final = Path("/opt/ml")
POLICY: Final = "released.json"
"""File of the channel `policy`."""

ANY_DIRECTION: Final = Monotone()
ALONE: Final = RunContext()


@dataclass(frozen=True)
class TrainedModels:
    """A bundle, and models as text by seed: `seeds` are fitted on all checkouts, `validation` on the earlier part.

    `training.evaluate` measures the latter on the latest part, which they have not seen.
    """

    bundle: Bundle
    seeds: Mapping[int, str]
    validation: Mapping[int, str]


def train(
    data: TrainingSet,
    settings: Settings,
    definitions: Definitions,
    reasons: Sequence[Reason],
    policy: Mapping[str, Any],
    monotone: Monotone = ANY_DIRECTION,
    context: RunContext = ALONE,
) -> TrainedModels:
    """Validate and calibrate on the latest part, then fit every seed on all. Raises CannotLearn, DefinitionError."""
    require_both(data.bad, "data set")
    split = split_by_time(data.q, data.known_at, settings.late_share)
    require_both(data.bad[split.early], "earlier part")
    require_both(data.bad[split.late], "latest part")
    print(
        f"train: {len(data.bad)} checkouts; {len(split.early)} earlier ones against {len(split.late)} latest"
    )
    catalogue = Catalogue(reasons, definitions.features)
    basis = reason_basis(definitions, monotone, (0.0,) * len(definitions.features))
    require_statements(catalogue, basis)
    plan = TrainingPlan(_weighted(data, settings.bad_weight), settings, split, context)
    recipe = plan.recipe(definitions, monotone)
    early = plan.fitted(recipe, "validation", split.early)
    calibration, cutoff, metrics = _validate(data, settings, split, early)
    models = plan.fitted(recipe, "seeds", np.arange(len(data.bad)))
    served = settings.seeds[0]
    pd = probabilities(calibration, raw_scores(models[served], data.values))
    with Booster(models[served]) as engine:
        reference = mean_contributions(engine, data.values, pd, cutoff)
    bundle = Bundle(
        model=models[served],
        features=definitions.features,
        definition_hash=definitions.hash,
        calibration=calibration,
        cutoff=cutoff,
        reason_reference=catalogue.by_factor(reference),
        reason_basis=structs.replace(basis, reference=reference),
        policy=policy,
        reasons=tuple(reasons),
        metrics=metrics,
        lineage=_lineage(data, settings, recipe) | {"reason_reference": _compared_with(pd, cutoff)},
    )
    return TrainedModels(bundle, models, early)


def _weighted(data: TrainingSet, bad_weight: float) -> TrainingSet:
    """The data with bads weighted by `bad_weight`, for fitting only: calibration uses the original weights."""
    return replace(data, weight=data.weight * np.where(data.bad == 1, bad_weight, 1.0))


def _validate(
    data: TrainingSet, settings: Settings, split: Split, models: Mapping[int, str]
) -> tuple[Calibration, float, dict[str, Any]]:
    """Measure each seed's model of the earlier part on the latest; calibrate the serving seed's."""
    outcome = data.bad[split.late]
    by_seed: dict[int, Floats] = {}
    for seed, model in models.items():
        by_seed[seed] = raw_scores(model, data.values[split.late])
        print(f"validate: seed={seed} auc={auc(outcome, by_seed[seed]):.4f}")
    raw = by_seed[settings.seeds[0]]
    calibration = calibrate(raw, outcome, data.weight[split.late])
    pd = probabilities(calibration, raw)
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
    """Reference population of the reasons: method, number and PD range of the applicants near the cut-off."""
    near = sorted(pd[near_cutoff(pd, cutoff)].tolist())
    return {
        "method": "12 CFR 1002.9, comment 9(b)(2)-5 (a): mean of applicants at or slightly above the minimum passing score",
        "applicants": len(near),
        "lowest_pd": near[0],
        "highest_pd": near[-1],
    }


def _lineage(data: TrainingSet, settings: Settings, recipe: Recipe) -> dict[str, Any]:
    manifest = data.manifest
    return {
        "as_of": settings.as_of,
        "rows": manifest["rows"],
        "bads": manifest["bads"],
        "dataset_sha256": manifest["sha256"],
        "window": manifest["window"],
        "seeds": list(settings.seeds),
        "parameters": recipe.to_lineage(len(data.bad)),
        "early_stopping": settings.early_stopping,
        "trials": settings.trials,
        "bad_weight": settings.bad_weight,
        "economics": {"merchant_fee": settings.merchant_fee, "loss_given_bad": settings.loss_given_bad},
        "lightgbm": lightgbm.__version__,
        "importance": GAIN,
    }


def write(trained: TrainedModels, out: Path) -> None:
    """Write bundle.json, metrics.json, seeds/<n>.txt and validation/<n>.txt; SageMaker packs them into model.tar.gz."""
    bundle = trained.bundle
    for folder, models in (("seeds", trained.seeds), ("validation", trained.validation)):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for seed, text in models.items():
            (out / folder / f"{seed}.txt").write_text(text)
    (out / "metrics.json").write_text(json.dumps(dict(bundle.metrics), indent=1, sort_keys=True) + "\n")
    (out / "bundle.json").write_bytes(bundle.to_bytes())


def _hyperparameters() -> Mapping[str, Any]:
    text = os.environ.get("SM_HPS") or (ML / "input/config/hyperparameters.json").read_text()
    hyperparameters: dict[str, Any] = json.loads(text)
    return hyperparameters


def _pinned_policy() -> PinnedPolicy:
    """Policy that the run's first step pinned, from channel `policy`; without the channel, no release is in force."""
    path = Path(os.environ.get("SM_CHANNEL_POLICY", ML / "input/data/policy")) / POLICY
    try:
        return PinnedPolicy.parse(json.loads(path.read_text("utf-8"))) if path.is_file() else PinnedPolicy()
    except ValueError as error:
        raise PolicyError(f"{path.name} is no JSON: start another run") from error


def _print_policy(pinned: PinnedPolicy, code: PolicyDocument) -> None:
    release = f"release {pinned.number}" if pinned.number else "the table before the first release"
    used = (
        f"table {pinned.document.hash[:12]} of {release}"
        if pinned.document
        else f"table {code.hash[:12]} of the code"
    )
    print(f"policy: {used}")
    if notice := pinned.difference(code):
        print(f"policy: {notice}")


def _fail(message: str) -> int:
    """Write the failure file, whose first line becomes the job's FailureReason, and return the exit code."""
    print(f"error: {message}", file=sys.stderr)
    folder = Path(os.environ.get("SM_OUTPUT_DIR", ML / "output"))
    if folder.is_dir():
        (folder / "failure").write_text(message)
    return 1


def main() -> int:
    """Entry point of the container; returns the exit code."""
    from lender import (
        ACCEPTANCE,
        DEFINITIONS,
        MONOTONE,
        REASONS,
        policy,
    )  # the lender's own code, as this image holds it

    started = time.monotonic()
    try:
        settings = Settings.parse(_hyperparameters())
        folder = Path(os.environ.get("SM_CHANNEL_DATASET", ML / "input/data/dataset"))
        data = read_training_set(folder, DEFINITIONS)
        hosts = Hosts.of(os.environ, ML / "input/config/resourceconfig.json")
        kept = Path(os.environ.get("CHECKPOINTS", ML / "checkpoints"))
        context = run_context(hosts, kept, data, settings, MONOTONE)
        pinned = _pinned_policy()
        table, reasons = pinned.composed(policy(), REASONS)
        _print_policy(pinned, PolicyDocument.of(policy(), REASONS))
        trained = train(data, settings, DEFINITIONS, reasons, table, MONOTONE, context)
        require_sound(trained.bundle, DEFINITIONS, ACCEPTANCE.currencies)
    except (CannotLearn, CandorError) as error:
        return _fail(str(error))
    if hosts.first:
        write(trained, Path(os.environ.get("SM_MODEL_DIR", ML / "model")))
    bundle = trained.bundle
    print(
        f"bundle {bundle.sha[:12]}: validation auc={bundle.metrics['auc_served']:.4f} of the serving seed, "
        f"{bundle.metrics['auc']:.4f} mean of {len(trained.seeds)} seeds (models of the earlier part, on the latest "
        f"{bundle.metrics['n']} checkouts), cut-off PD {bundle.cutoff:.1%}, {time.monotonic() - started:.0f} s"
    )
    return 0
