"""Drift and calibration against scipy, scikit-learn, and worked examples from the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, spatial, special, stats
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from training.metrics.drift import Bins, jensen_shannon, missing_rate, psi, psi_by_chance, state_of
from training.monitoring.figures import (
    ConfidenceInterval,
    bad_rate_ratio,
    calibration,
    rate_difference,
    rate_interval,
)

RANDOM = np.random.default_rng(7)

full = st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)), min_size=1, max_size=12)
holey = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12).filter(
    lambda rows: any(before for before, _ in rows) and any(now for _, now in rows)
)


@given(full)
def test_psi_is_the_sum_of_both_relative_entropies(rows):
    before, now = np.array(rows).T
    p, q = before / before.sum(), now / now.sum()
    expected = special.rel_entr(p, q).sum() + special.rel_entr(q, p).sum()
    assert psi(before, now) == pytest.approx(expected, abs=1e-12)
    assert psi(before, now) == pytest.approx(psi(now, before), abs=1e-12)


@given(holey)
def test_an_empty_bin_counts_as_half_an_observation(rows):
    before, now = (
        [max(count, 0.5) for count, other in pairs if count or other]
        for pairs in (rows, [(other, count) for count, other in rows])
    )
    assert psi(*np.array(rows).T) == pytest.approx(
        stats.entropy(before, now) + stats.entropy(now, before), abs=1e-12
    )


@given(holey)
def test_the_jensen_shannon_distance_is_scipys_to_base_2(rows):
    before, now = np.array(rows, dtype=float).T
    expected = spatial.distance.jensenshannon(before, now, base=2)
    assert jensen_shannon(before, now) == pytest.approx(expected, abs=1e-7)


def test_disjoint_populations_are_at_distance_1_and_equal_ones_at_0():
    assert jensen_shannon([3, 0], [0, 9]) == pytest.approx(1.0)
    assert jensen_shannon([3, 9], [1, 3]) == 0.0
    assert psi([3, 9], [1, 3]) == 0.0


def test_psi_of_a_hand_calculation():
    # (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5)
    assert psi([50, 50], [60, 40]) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8))


def test_chance_exceeds_its_bound_as_often_as_it_should():
    p = np.array([0.05, 0.1, 0.1, 0.2, 0.25, 0.3])
    drawn = [(RANDOM.multinomial(2_000, p), RANDOM.multinomial(600, p)) for _ in range(4_000)]
    beyond = np.mean([psi(before, now) > psi_by_chance(before, now, 0.95) for before, now in drawn])
    assert 0.04 < beyond < 0.06
    assert psi_by_chance([7, 0], [9, 0], 0.95) == 0.0


@pytest.mark.parametrize(
    ("index", "by_chance", "state"),
    [
        (0.09, 0.0, "stable"),
        (0.10, 0.05, "watch"),
        (0.24, 0.05, "watch"),
        (0.25, 0.05, "act"),
        (0.3, 0.3, "unclear"),
        (0.05, 0.3, "stable"),
    ],
)
def test_a_shift_has_a_state(index, by_chance, state):
    assert state_of(index, by_chance) == state


def test_bins_have_equal_counts_on_the_snapshot_and_do_not_move():
    snapshot = RANDOM.normal(size=10_000)
    bins = Bins.frozen(snapshot)
    assert bins.counts(snapshot).tolist() == [1_000] * 10 + [0]
    edges = np.array([-np.inf, *bins.edges, np.inf])
    later = RANDOM.normal(2.0, 3.0, size=999)
    expected, _ = np.histogram(
        -later, -edges[::-1]
    )  # numpy closes bins to the left, these are closed to the right
    assert bins.counts([*later, np.nan]).tolist() == [*expected[::-1].tolist(), 1]


def test_a_tie_falls_on_one_side():
    snapshot = np.array([0.0] * 700 + list(range(1, 301)), dtype=float)
    bins = Bins.frozen(snapshot)
    counts = bins.counts(snapshot)
    assert counts.sum() == 1_000
    assert counts[0] == 700
    assert counts[:-1].min() > 0
    assert bins.counts([0.0, -5.0])[0] == 2


def test_few_values_have_a_bin_each_and_one_for_what_was_never_seen():
    bins = Bins.frozen([1.0, 1.0, 3.0, math.nan])
    assert bins.labels() == ["1", "3", "other", "missing"]
    assert bins.counts([3.0, 2.0, 0.0, 4.0, 1.0, math.nan]).tolist() == [1, 1, 3, 1]


def test_a_feature_that_was_always_missing_shows_when_it_appears():
    bins = Bins.frozen([math.nan] * 100)
    assert bins.counts([math.nan, 5.0]).tolist() == [1, 1]
    assert psi(bins.counts([math.nan] * 100), bins.counts([5.0] * 100)) > 1.0
    assert missing_rate([math.nan, 5.0]) == 0.5


def outcomes(size: int, slope: float, intercept: float) -> tuple[np.ndarray, np.ndarray]:
    """Predicted PDs, and outcomes drawn from them after a shift by slope and intercept."""
    odds = RANDOM.normal(-1.5, 1.0, size)
    return special.expit(odds), RANDOM.random(size) < special.expit(slope * odds + intercept)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -0.3), (1.6, 0.4)])
def test_slope_and_intercept_are_scikit_learns(slope, intercept):
    pd, bad = outcomes(3_000, slope, intercept)
    odds = np.log(pd / (1 - pd)).reshape(-1, 1)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1_000).fit(odds, bad)
    figures = calibration(bad, pd)
    assert figures is not None
    assert figures.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-5)
    assert figures.intercept == pytest.approx(oracle.intercept_[0], rel=1e-4, abs=1e-5)
    assert figures.slope_interval.low < slope < figures.slope_interval.high
    assert (figures.slope_interval.beyond(1.0) == 0.0) == (slope == 1.0)


def test_the_slopes_interval_is_of_the_likelihoods_curvature():
    pd, bad = outcomes(800, 1.2, 0.1)
    odds = special.logit(pd)

    def loss(line):
        return -np.sum(stats.bernoulli.logpmf(bad, special.expit(line[0] + line[1] * odds)))

    best = optimize.minimize(
        loss, [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}
    ).x
    step = 1e-3
    e = np.eye(2) * step
    hessian = [
        [
            (loss(best + a + b) - loss(best + a - b) - loss(best - a + b) + loss(best - a - b))
            / (4 * step**2)
            for b in e
        ]
        for a in e
    ]
    error = math.sqrt(np.linalg.inv(np.array(hessian))[1, 1])
    interval = calibration(bad, pd).slope_interval
    assert interval.high - interval.low == pytest.approx(2 * stats.norm.ppf(0.975) * error, rel=1e-3)


def test_the_expected_calibration_error_is_scikit_learns_curve_weighted():
    pd, bad = outcomes(2_000, 0.6, 0.5)
    observed, predicted = calibration_curve(bad, pd, n_bins=10, strategy="quantile")
    figures = calibration(bad, pd)
    assert figures.ece == pytest.approx(np.mean(np.abs(observed - predicted)), abs=1e-12)
    assert figures.ratio == pytest.approx(bad.mean() / pd.mean())


def test_what_cannot_be_regressed_has_no_slope():
    bad = np.arange(100) < 30
    assert calibration([], []) is None
    assert calibration(bad, np.full(100, 0.3)).slope is None
    assert calibration(bad, np.where(bad, 0.9, 0.1)).slope is None  # told apart without fault
    assert calibration(np.arange(100) < 9, np.linspace(0.1, 0.9, 100)).slope is None  # 9 bads
    assert calibration(bad, np.where(bad, 1.0, np.linspace(0.0, 1.0, 100))).ratio > 0.0


def test_the_bad_rate_ratio_has_garwoods_interval():
    ratio, interval = bad_rate_ratio(10, 8.0)
    # Garwood's 95 % interval of an observed count of 10 is 4.795 to 18.390.
    assert (ratio, *interval) == pytest.approx((1.25, 4.795 / 8, 18.390 / 8), abs=1e-3)
    assert bad_rate_ratio(0, 2.0) == (0.0, ConfidenceInterval(0.0, pytest.approx(3.689 / 2, abs=1e-3)))


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_rate_has_wilsons_interval(part, rest):
    if part + rest:
        oracle = stats.binomtest(part, part + rest).proportion_ci(0.95, "wilson")
        assert rate_interval(part, part + rest) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_a_difference_has_newcombes_interval():
    # Newcombe 1998, table II, example (a): 56/70 less 48/80.
    difference, interval = rate_difference(56, 70, 48, 80)
    assert (difference, *interval) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert interval.beyond(0.0) == pytest.approx(0.0524, abs=1e-4)
    assert interval.beyond(0.5) == pytest.approx(0.5 - 0.3339, abs=1e-4)
