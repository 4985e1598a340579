"""Measures of an evaluation against hand calculations and independent naive versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from training.evaluate.profit import profit, swap_set
from training.evaluate.reject_inference import (
    fuzzy_augmentation,
    hard_cutoff,
    inverse_propensity,
    parcelling,
    reject_inference,
)
from training.evaluate.stability import stability
from training.metrics.calibration import calibration, hosmer_lemeshow, line, murphy
from training.metrics.discrimination import comparison, gains
from training.metrics.scores import auc, auc_difference


@pytest.fixture(scope="module")
def scored():
    random = np.random.default_rng(11)
    pd = expit(random.normal(-1.5, 1.0, 6_000))
    return (random.random(6_000) < pd).astype(np.int8), pd


def test_true_probabilities_have_slope_one_and_intercept_zero(scored):
    bad, pd = scored
    figures = line(bad, pd)
    assert figures["slope"] == pytest.approx(1.0, abs=0.08)
    assert figures["intercept"] == pytest.approx(0.0, abs=0.08)
    assert figures["ece"] < 0.02


@pytest.mark.parametrize(("stretch", "shift"), [(2.0, 0.0), (0.5, 0.0), (1.0, 0.7)])
def test_what_is_too_spread_or_too_high_is_told(scored, stretch, shift):
    bad, pd = scored
    wrong = expit(stretch * np.log(pd / (1 - pd)) + shift)
    figures = line(bad, wrong)
    assert figures["slope"] == pytest.approx(1 / stretch, abs=0.08)
    if stretch == 1.0:
        assert figures["intercept"] == pytest.approx(-shift, abs=0.08)
    assert expit(np.log(wrong / (1 - wrong)) + figures["intercept"]).mean() == pytest.approx(bad.mean())


def test_murphys_parts_add_up_to_the_brier_score(scored):
    bad, pd = scored
    parts = murphy(bad, pd)
    whole = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within_bins"]
    assert whole == pytest.approx(np.mean((pd - bad) ** 2), abs=1e-12)
    assert parts["uncertainty"] == pytest.approx(bad.mean() * (1 - bad.mean()))
    in_bins = np.repeat([0.1, 0.3], 500)
    exact = murphy(np.tile([1] + [0] * 9, 100).astype(np.int8), np.full(1_000, 0.1))
    assert exact["reliability"] == pytest.approx(0.0, abs=1e-12)
    assert murphy((in_bins > 0.2).astype(np.int8), in_bins)["within_bins"] == pytest.approx(0.0, abs=1e-12)


def test_hosmer_and_lemeshow_accept_the_truth_and_refuse_a_shift(scored):
    bad, pd = scored
    assert hosmer_lemeshow(bad, pd)["p"] > 0.01
    assert hosmer_lemeshow(bad, np.clip(pd * 1.5, 0, 0.99))["p"] < 1e-6
    assert set(calibration(bad, pd)) >= {"brier", "log_loss", "slope", "intercept", "ece", "reliability"}


def test_gains_hold_every_row_once_from_the_riskiest(scored):
    bad, pd = scored
    table = gains(bad, pd)
    assert [decile["decile"] for decile in table] == list(range(1, 11))
    assert sum(decile["n"] for decile in table) == len(bad)
    assert sum(decile["bads"] for decile in table) == bad.sum()
    assert table[-1]["cumulative_bads"] == pytest.approx(1.0)
    first = np.argsort(-pd)[:600]
    assert table[0]["bad_rate"] == pytest.approx(bad[first].mean())
    assert table[0]["lift"] == pytest.approx(bad[first].mean() / bad.mean())
    assert gains(np.zeros(10, dtype=np.int8), np.linspace(0, 1, 10))[0]["odds"] is None


def test_a_paired_difference_is_surer_than_two_intervals(scored):
    bad, pd = scored
    noisy = pd + np.random.default_rng(2).normal(0, 0.02, len(pd))
    difference = comparison(bad, noisy, pd)
    assert difference["auc_difference"] == pytest.approx(auc(bad, noisy) - auc(bad, pd))
    assert difference["low"] < difference["auc_difference"] < difference["high"]
    assert difference["high"] - difference["low"] < 0.02
    same = auc_difference(bad, pd, pd, rounds=20)
    assert (same.low, same.high) == (0.0, 0.0)


def test_the_stability_index_is_the_textbooks():
    score, none = np.arange(1_000.0), np.empty((1_000, 0))
    lower_half = np.concatenate([np.arange(500.0), np.arange(500.0)])
    assert stability(none, none, score, score, [])["psi"] == 0.0
    # Five bins hold twice a tenth, five are empty and count as half a row.
    filled, empty = 200 / 1002.5, 0.5 / 1002.5
    by_hand = 5 * (filled - 0.1) * math.log(filled / 0.1) + 5 * (empty - 0.1) * math.log(empty / 0.1)
    assert stability(none, none, score, lower_half, [])["psi"] == pytest.approx(by_hand, rel=1e-12)


def test_values_that_go_missing_move_the_index():
    early = np.column_stack([np.arange(100.0), np.arange(100.0)])
    late = early.copy()
    late[:40, 1] = np.nan
    report = stability(early, late, early[:, 0], late[:, 0], ["same", "lost"])
    assert report["csi"]["same"] < 1e-9
    assert report["csi"]["lost"] > 0.25
    assert report["missing"] == {"same": [0.0, 0.0], "lost": [0.0, 0.4]}


def test_profit_along_the_curve_is_counted_by_hand():
    bad, pd = np.array([0, 0, 1, 1], dtype=np.int8), np.array([0.1, 0.2, 0.3, 0.9])
    report = profit(bad, pd, cutoff=0.3, income=0.1, loss=0.4)
    assert report["approval_rate"] == 0.75
    assert report["bad_rate"] == pytest.approx(1 / 3)
    assert report["profit_per_unit"] == pytest.approx((0.1 + 0.1 - 0.4) / 4)
    assert report["curve"][-1]["approval_rate"] == 1.0
    assert [row["loss"] for row in report["sensitivity"]] == pytest.approx([0.3, 0.4, 0.5])
    assert max(point["profit_per_unit"] for point in report["curve"]) == pytest.approx(
        report["sensitivity"][1]["profit_per_unit"]
    )


def test_the_swap_set_counts_everyone_once():
    bad = np.array([0, 1, 0, 1, 0], dtype=np.int8)
    ours = np.array([True, True, False, False, True])
    theirs = np.array([True, False, True, False, False])
    assert swap_set(bad, ours, theirs) == {
        "both": 1,
        "neither": 1,
        "in": {"n": 2, "bad_rate": 0.5},
        "out": {"n": 1, "bad_rate": 0.0},
    }
    assert swap_set(bad, ours, ours)["in"] == {"n": 0, "bad_rate": None}


def test_reject_inference_by_hand():
    bad = np.array([1, 0, 0, 0], dtype=np.int8)
    assert hard_cutoff(bad, np.array([0.2, 0.6]), 0.5) == pytest.approx(2 / 6)
    assert fuzzy_augmentation(bad, np.array([0.2, 0.6])) == pytest.approx(1.8 / 6)
    assert inverse_propensity(bad, np.array([0.5, 1.0, 1.0, 1.0])) == pytest.approx(2 / 5)
    approved = np.array([0.4, 0.1, 0.4, 0.1])
    assert parcelling(bad, approved, np.array([0.5]), uplift=1.2) == pytest.approx((1 + 0.6) / 5)


def test_the_spread_holds_the_truth_of_a_simulated_lender(scored):
    bad, pd = scored
    approved = np.random.default_rng(4).random(len(pd)) < 1 - pd
    estimates = reject_inference(bad[approved], pd[approved], pd[~approved], 0.3)
    assert estimates["approved_only"] < bad.mean()
    assert estimates["fuzzy_augmentation"] == pytest.approx(bad.mean(), abs=0.02)
    assert estimates["inverse_propensity"] == pytest.approx(bad.mean(), abs=0.03)
    known = reject_inference(bad[approved], pd[approved], pd[~approved], 0.3, 1 - pd[approved])
    assert known["inverse_propensity"] == pytest.approx(bad.mean(), abs=0.02)
    named = [value for name, value in estimates.items() if name not in ("spread", "approved_only")]
    assert estimates["spread"] == pytest.approx(max(named) - min(named))
