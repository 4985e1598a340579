"""A search for hyperparameters that repeats: Optuna is asked in batches of fixed size and told in order, with a seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import optuna

BATCH: Final = 4
"""Trials that are asked for together. A run on more processors must not change it: the sampler learns between batches."""

Objective = Callable[[Mapping[str, Any]], tuple[float, Mapping[str, Any]]]


def search(
    objective: Objective, trials: int, seed: int, once: Callable[[str, Callable[[], str]], str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best parameters of `trials` and what `objective` said of them; `objective` gives (AUC, more).

    `once` keeps each trial's answer under a name, so that an interrupted search asks and tells the same again.
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
    """Ranges around what credit data with thin signals are known to want: shallow, slow, regularised."""
    return {
        "num_leaves": trial.suggest_int("num_leaves", 4, 31),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 20, 200, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 30.0, log=True),
    }
