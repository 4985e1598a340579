"""A model's text as a bundle holds it. That its scores are the same is proven in test_lightgbm_random.py."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from candor.model.lightgbm import Booster
from candor.model.lightgbm_text import served


@pytest.fixture(scope="module")
def text() -> str:
    random = np.random.default_rng(4)
    rows = random.normal(size=(2_000, 8))
    data = lightgbm.Dataset(rows, rows[:, 0] * rows[:, 1] > 0, feature_name=[f"größe{n}" for n in range(8)])
    return lightgbm.train(
        {"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 30
    ).model_to_string()


def test_less_than_two_thirds_of_it_is_served(text):
    assert len(served(text)) < 0.65 * len(text)


def test_what_is_served_has_all_its_trees_and_parameters(text):
    with Booster(text) as whole, Booster(served(text)) as reduced:
        rows = np.random.default_rng(5).normal(size=(50, 8)).tolist()
        assert [reduced.raw(row) for row in rows] == [whole.raw(row) for row in rows]
    assert served(text).partition("end of trees")[2] == text.partition("end of trees")[2]


def test_what_is_served_stays_as_it_is(text):
    assert served(served(text)) == served(text)


@pytest.mark.parametrize("text", ["", "tree\nversion=v4\n", "no model"])
def test_a_text_that_is_no_model_stays_as_it_is(text):
    assert served(text) == text
