"""The seam between a bundle and its scoring engine: another kind of model touches one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Self

import pytest
from msgspec import structs

from candor.errors import BundleRefused, ModelRefused
from candor.model import engine
from candor.model.bundle import Bundle
from candor.model.lightgbm import Booster
from candor.underwriting import LoadedBundle
from tests.decide.lending import champion


class Linear:
    """A second scoring engine: a weight a column, and a bias, as JSON."""

    def __init__(self, model: str) -> None:
        self.weights: dict[str, float] = json.loads(model)
        if not all(isinstance(weight, float) for weight in self.weights.values()):
            raise ModelRefused("a weight is not a number")

    @staticmethod
    def columns(model: str) -> tuple[str, ...]:
        return tuple(name for name in json.loads(model) if name != "bias")

    @staticmethod
    def uses_a_feature(model: str) -> bool:
        return any(json.loads(model)[name] for name in Linear.columns(model))

    def raw(self, values: Sequence[float]) -> float:
        return sum(self.contributions(values))

    def contributions(self, values: Sequence[float]) -> list[float]:
        *weights, bias = self.weights.values()
        return [*(weight * value for weight, value in zip(weights, values, strict=True)), bias]

    def close(self) -> None:
        self.weights = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def linear(monkeypatch) -> Bundle:
    monkeypatch.setattr(engine, "ENGINES", {engine.LIGHTGBM: Booster, "linear": Linear})
    weights = dict.fromkeys(champion().features, 0.0) | {champion().features[0]: 0.5, "bias": -1.0}
    return structs.replace(champion(), engine="linear", model=json.dumps(weights))


def test_a_bundle_without_a_name_is_served_by_lightgbm_and_keeps_its_bytes():
    members = json.loads(champion().to_bytes())
    assert "engine" not in members
    again = Bundle.from_bytes(champion().to_bytes())
    assert again.engine == "lightgbm"
    assert again.sha == champion().sha
    assert isinstance(again.load(), Booster)


def test_a_bundle_of_another_engine_names_it_and_is_scored_by_it(linear):
    again = Bundle.from_bytes(linear.to_bytes())
    assert json.loads(linear.to_bytes())["engine"] == "linear"
    assert again.engine == "linear"
    row = [4.0, *[0.0] * (len(again.features) - 1)]
    loaded = LoadedBundle(again.sha, again)
    assert loaded.score(row) == again.score(1.0)
    assert loaded.engine.contributions(row)[0] == 2.0


def test_the_engine_says_what_the_columns_are(linear):
    weights = dict(reversed(json.loads(linear.model).items()))
    with pytest.raises(BundleRefused, match="columns are not the bundle's features"):
        structs.replace(linear, model=json.dumps(weights))


def test_a_model_that_its_engine_rejects_is_refused_as_a_bundle(linear):
    weights = json.loads(linear.model) | {"bias": "much"}
    with pytest.raises(BundleRefused, match="a weight is not a number"):
        LoadedBundle("a" * 64, structs.replace(linear, model=json.dumps(weights)))


def test_an_engine_of_no_name_is_refused_with_those_there_are():
    members = json.loads(champion().to_bytes()) | {"engine": "oracle"}
    with pytest.raises(BundleRefused, match="no scoring engine is named 'oracle'; there are: lightgbm"):
        Bundle.from_bytes(json.dumps(members).encode())
