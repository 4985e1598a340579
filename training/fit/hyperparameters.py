"""Hyperparameters of a training job, as SageMaker passes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from training.dataset.split import CannotLearn


@dataclass(frozen=True)
class Settings:
    """Settings of a training job. The model of the first of `seeds` serves; fee and loss are shares of the amount lent.

    `bad_weight` is the weight of a bad relative to a good in fitting; calibration undoes it. `rounds` is the maximum
    number of trees; with `early_stopping` above 0, training stops after that many rounds without improvement on the
    last `late_share` of the earlier part. `trials` is the number of Optuna trials; 0 takes the default hyperparameters.
    """

    run: str
    as_of: str
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    late_share: float = 0.2
    merchant_fee: float = 0.05
    loss_given_bad: float = 0.45
    rounds: int = 1_000
    early_stopping: int = 100
    trials: int = 0
    bad_weight: float = 1.0

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Settings:
        """Parse SageMaker's hyperparameters, whose values may be JSON text. Raises CannotLearn for an invalid one."""
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown:
            raise CannotLearn(f"hyperparameters: unknown: {', '.join(unknown)}")
        if "run" not in given or "as_of" not in given:
            raise CannotLearn("hyperparameters: give run and as_of")
        try:
            read: dict[str, Any] = {name: _READ[name](value) for name, value in given.items()}
        except (TypeError, ValueError) as error:
            raise CannotLearn(f"hyperparameters: {error}") from error
        settings = cls(**read)
        if not settings.seeds or len(set(settings.seeds)) != len(settings.seeds):
            raise CannotLearn("hyperparameters: seeds must be a list of different integers")
        shares = 0.0 < settings.late_share < 1.0 and settings.bad_weight > 0.0
        if settings.rounds < 1 or min(settings.early_stopping, settings.trials) < 0 or not shares:
            raise CannotLearn(
                "hyperparameters: rounds must be at least 1, early_stopping and trials at least 0, late_share between "
                "0 and 1, bad_weight above 0"
            )
        return settings


def _seeds(given: Any) -> tuple[int, ...]:
    return tuple(int(seed) for seed in (json.loads(given) if isinstance(given, str) else given))


_KINDS: Mapping[str, Any] = {"str": str, "int": int, "float": float, "tuple[int, ...]": _seeds}
_READ: Mapping[str, Any] = {field.name: _KINDS[str(field.type)] for field in fields(Settings)}
