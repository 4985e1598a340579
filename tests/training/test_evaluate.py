"""Metrics of scores against their definitions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.examples import examples
from training.metrics.scores import _auc_of, auc, auc_interval, brier, calibration_table, ks, summary


@pytest.fixture(scope="module")
def scored():
    random = np.random.default_rng(3)
    probabilities = random.uniform(size=2_000)
    return (random.uniform(size=2_000) < probabilities).astype(int), probabilities


SCORES = arrays.arrays(float, st.integers(1, 30), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@examples(50)
@given(SCORES, SCORES)
def test_auc_is_the_share_of_pairs_in_order_ties_half(bads, goods):
    labels = [1] * len(bads) + [0] * len(goods)
    pairs = [(bad > good) + 0.5 * (bad == good) for bad in bads for good in goods]
    assert auc(labels, [*bads, *goods]) == pytest.approx(np.mean(pairs))
    assert _auc_of(bads, goods) == pytest.approx(np.mean(pairs))


def test_the_interval_holds_the_figure_and_shrinks_with_more_data(scored):
    labels, scores = scored
    wide, narrow = (
        auc_interval(labels[:200], scores[:200], rounds=300),
        auc_interval(labels, scores, rounds=300),
    )
    assert narrow.low < auc(labels, scores) < narrow.high
    assert narrow.sd < wide.sd
    assert auc_interval(labels, scores, rounds=300) == narrow


def test_an_interval_needs_both_outcomes():
    with pytest.raises(ValueError, match="bads and goods"):
        auc_interval([0, 0], [0.1, 0.2])


def test_ks_and_brier_of_perfect_and_of_useless_scores():
    assert ks([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 1.0
    assert ks([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]) == 0.0
    assert brier([0, 1], [0.0, 1.0]) == 0.0
    assert brier([0, 1], [0.5, 0.5]) == 0.25


def test_the_calibration_table_holds_every_row_once_in_order(scored):
    labels, probabilities = scored
    table = calibration_table(labels, probabilities, bins=7)
    assert sum(row.n for row in table) == 2_000
    assert sum(row.bads for row in table) == labels.sum()
    assert [row.predicted for row in table] == sorted(row.predicted for row in table)
    assert all(abs(row.predicted - row.observed) < 0.1 for row in table)
    assert len(calibration_table([1, 0], [0.2, 0.1], bins=7)) == 2


def test_the_summary_is_json(scored):
    figures = json.loads(json.dumps(summary(*scored)))
    assert figures["n"] == 2_000
    assert figures["auc_low"] < figures["auc"] < figures["auc_high"]
