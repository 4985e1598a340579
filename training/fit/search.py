"""Reproducible hyperparameter search: seeded Optuna with batches of fixed size, whose results are reported in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import optuna

BATCH: Final = 4
"""Trials per batch. It must not depend on the number of processors: the sampler learns between batches."""

Objective = Callable[[Mapping[str, Any]], tuple[float, Mapping[str, Any]]]


def search(
    objective: Objective, trials: int, seed: int, once: Callable[[str, Callable[[], str]], str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best parameters of `trials` trials, and what `objective` returned for them beside the AUC.

    `once` keeps each trial's result under a name, so that an interrupted search repeats exactly.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    answers: list[tuple[float, dict[str, Any], dict[str, Any]]] = []
    while len(answers) < trials:
        batch = [study.ask() for _ in range(min(BATCH, trials - len(answers)))]
        results = []
        for trial in batch:
            chosen = suggest(trial)
            text = once(f"trial-{trial.number}.json", lambda chosen=chosen: _evaluate(objective, chosen))  # type: ignore[misc]
            answer = json.loads(text)
            results.append((trial, float(answer["auc"])))
            answers.append((float(answer["auc"]), chosen, answer["more"]))
            print(f"search: trial={trial.number} auc={answer['auc']:.4f}", flush=True)
        for trial, score in results:
            study.tell(trial, score)
    _, best, more = max(answers, key=lambda scored: scored[0])
    return best, more


def _evaluate(objective: Objective, chosen: Mapping[str, Any]) -> str:
    score, more = objective(chosen)
    return json.dumps({"auc": score, "more": dict(more)})


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Search ranges for credit data with thin signals: shallow trees, slow learning, regularisation."""
    return {
        "num_leaves": trial.suggest_int("num_leaves", 4, 31),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 20, 200, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 30.0, log=True),
    }
