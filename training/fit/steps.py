"""Steps of a training: an optional search, the number of rounds, and a model per seed, each with a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from candor.features.definitions import Definitions
from candor.reasons import Monotone
from training.dataset.read import TrainingSet
from training.dataset.split import Split, split_by_time
from training.fit.checkpoints import Checkpoints
from training.fit.hosts import Hosts
from training.fit.hyperparameters import Settings
from training.fit.recipe import PARAMETERS, Recipe
from training.fit.search import search
from training.metrics.discrimination import enough

FIXED_ROUNDS: Final = 400
"""Rounds where the earlier part is too short for early stopping."""

_ROOT: Final = Path(__file__).resolve().parents[1]
_CODE: Final = (
    "dataset/read.py",
    "dataset/split.py",
    "fit/calibrate.py",
    "fit/recipe.py",
    "fit/search.py",
    "fit/steps.py",
)
"""Files whose bytes are part of the checkpoint key, because they decide what a step computes."""


@dataclass(frozen=True)
class RunContext:
    """Context of a training run: its hosts, and the checkpoints of its finished steps."""

    hosts: Hosts = field(default_factory=Hosts)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)


@dataclass(frozen=True)
class TrainingPlan:
    """Plan of a training. `split` is of the whole data set; its late part takes no part in any choice made here."""

    data: TrainingSet
    settings: Settings
    split: Split
    context: RunContext

    def recipe(self, definitions: Definitions, monotone: Monotone) -> Recipe:
        """Recipe with parameters and rounds found on the latest share of the earlier part, or fixed ones."""
        settings, features = self.settings, definitions.features
        base = Recipe(features, monotone.of(features), settings.rounds, hosts=self.context.hosts)
        inner = self._inner()
        if not (settings.early_stopping or settings.trials):
            return base
        if not (enough(self.data.bad[inner.early]) and enough(self.data.bad[inner.late])):
            print(f"rounds: the history is too short for early stopping; at most {FIXED_ROUNDS}")
            return replace(base, rounds=min(settings.rounds, FIXED_ROUNDS))
        recipe = replace(base, parameters={**PARAMETERS, **self._searched(base, inner)})
        return self._stopped(recipe, inner) if settings.early_stopping else recipe

    def _inner(self) -> Split:
        """The earlier part, split by time again; row numbers are of the whole data set."""
        rows, late_share = self.split.early, self.settings.late_share
        inner = split_by_time(self.data.q[rows], self.data.known_at[rows], late_share)
        return Split(rows[inner.early], rows[inner.late], inner.at)

    def _searched(self, base: Recipe, inner: Split) -> dict[str, Any]:
        if not self.settings.trials:
            return {}
        seed, patience = self.settings.seeds[0], self.settings.early_stopping or self.settings.rounds

        def tried(chosen: Mapping[str, Any]) -> tuple[float, Mapping[str, Any]]:
            recipe = replace(base, parameters={**PARAMETERS, **chosen})
            best, score = recipe.best_rounds(self.data, inner, seed, patience)
            return score, {"rounds": best}

        return search(tried, self.settings.trials, seed, self.context.checkpoints.once)[0]

    def _stopped(self, recipe: Recipe, inner: Split) -> Recipe:
        """The recipe with the median of the seeds' best rounds: a single seed's is noise."""
        best = [self._best(recipe, inner, seed) for seed in self.settings.seeds]
        stopped = recipe.with_rounds(best, len(inner.early))
        print(f"rounds: {stopped.rounds} for {len(inner.early)} checkouts, {best} by seed")
        return stopped

    def _best(self, recipe: Recipe, inner: Split, seed: int) -> int:
        def stopped() -> str:
            return json.dumps(recipe.best_rounds(self.data, inner, seed, self.settings.early_stopping)[0])

        return int(json.loads(self.context.checkpoints.once(f"rounds-{seed}.json", stopped)))

    def fitted(self, recipe: Recipe, part: str, rows: NDArray[np.int64]) -> dict[int, str]:
        """Fit a model per seed on `rows`; returns their text by seed."""
        once = self.context.checkpoints.once
        return {
            seed: once(f"{part}-{seed}.txt", _fit(recipe, self.data, rows, seed))
            for seed in self.settings.seeds
        }


def _fit(recipe: Recipe, data: TrainingSet, rows: NDArray[np.int64], seed: int) -> Callable[[], str]:
    return lambda: recipe.fit(data, rows, seed)


def run_context(
    hosts: Hosts, folder: Path, data: TrainingSet, settings: Settings, monotone: Monotone
) -> RunContext:
    """The context, with checkpoints below `folder` for one host; several hosts keep none, as theirs could differ."""
    if hosts.several:
        return RunContext(hosts)
    choices = {name: value for name, value in asdict(settings).items() if name != "run"}
    code = hashlib.sha256(b"".join((_ROOT / name).read_bytes() for name in _CODE)).hexdigest()
    made_of = {
        "dataset": data.manifest["sha256"],
        "definitions": data.manifest["definition_hash"],
        "settings": choices,
        "directions": [monotone.adverse, monotone.rising, monotone.falling],
        "code": code,
        "lightgbm": lightgbm.__version__,
    }
    return RunContext(hosts, Checkpoints.of(folder, made_of))
