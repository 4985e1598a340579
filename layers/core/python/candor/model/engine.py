"""The seam between a decision and the kind of model behind it: a bundle names its scoring engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol, Self

from candor.errors import BundleRefused
from candor.model.lightgbm import Booster

LIGHTGBM: Final = "lightgbm"


class ScoringEngine(Protocol):
    """A loaded model that scores one row at a time. Not thread-safe: use one per thread.

    A row holds a float64 per column, in the model's order; NaN means missing. An engine raises ModelRefused for a
    model or a row that it cannot score, and EngineUnavailable if a library is missing.
    """

    def __init__(self, model: str) -> None:
        """Load a model from its text."""

    @staticmethod
    def columns(model: str) -> tuple[str, ...]:
        """Names of the model's columns, in order, without loading it."""

    @staticmethod
    def uses_a_feature(model: str) -> bool:
        """Whether the score depends on any feature, without loading the model."""

    def raw(self, values: Sequence[float]) -> float:
        """Raw score (log odds) of one row."""

    def contributions(self, values: Sequence[float]) -> list[float]:
        """Log-odds contribution of each column, then the bias; their sum is the raw score."""

    def close(self) -> None:
        """Free the model's memory. Safe to call twice."""

    def __enter__(self) -> Self:
        """The engine itself; it is closed at the end of the `with` block."""

    def __exit__(self, *_: object) -> None:
        """Close the engine."""


ENGINES: Final[Mapping[str, type[ScoringEngine]]] = MappingProxyType({LIGHTGBM: Booster})
"""Scoring engines by the name that a bundle gives."""


def engine_named(name: str) -> type[ScoringEngine]:
    """The scoring engine of this name. Raises BundleRefused if there is none."""
    engine = ENGINES.get(name)
    if engine is None:
        raise BundleRefused(f"no scoring engine is named {name!r}; there are: {', '.join(ENGINES)}")
    return engine
