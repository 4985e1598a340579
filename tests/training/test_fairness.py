"""Fair lending measures against hand calculations, and a search that finds a planted proxy."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from training.evaluate.alternatives import AlternativeModel, ComparisonSet, alternatives
from training.evaluate.fairness import Outcomes, adverse_impact, against_reference, groups
from training.metrics.scores import auc

HMDA = Path(os.environ.get("HMDA_DATA", Path(__file__).parents[3] / "shared/data/hmda"))


def repeated(*parts: tuple[int, object]) -> np.ndarray:
    return np.array([value for n, value in parts for _ in range(n)])


@pytest.fixture(scope="module")
def outcomes():
    """Reference: 80 of 100 approved, 10 of 20 bads among them. Group: 30 of 50 approved, 5 of 10 bads among them."""
    pd = repeated((80, 0.1), (20, 0.4), (30, 0.1), (20, 0.4))
    bad = repeated((70, 0), (10, 1), (10, 0), (10, 1), (25, 0), (5, 1), (15, 0), (5, 1)).astype(np.int8)
    return Outcomes(bad, pd, 0.2)


@pytest.fixture(scope="module")
def masks():
    group = np.arange(150) >= 100
    return group, ~group


def test_ratios_by_hand(outcomes, masks):
    measures = against_reference(outcomes, *masks)
    assert (measures["n"], measures["n_reference"]) == (50, 100)
    assert measures["air"] == pytest.approx(0.6 / 0.8)
    assert measures["marginal_effect"] == pytest.approx(0.2)
    assert measures["fpr_ratio"] == pytest.approx((15 / 40) / (10 / 80))
    assert measures["fnr_ratio"] == pytest.approx((5 / 10) / (10 / 20))
    mean_group, mean_reference = (30 * 0.1 + 20 * 0.4) / 50, (80 * 0.1 + 20 * 0.4) / 100
    mean = (110 * 0.1 + 40 * 0.4) / 150
    deviation = math.sqrt((110 * (0.1 - mean) ** 2 + 40 * (0.4 - mean) ** 2) / 149)
    assert measures["smd"] == pytest.approx((mean_group - mean_reference) / deviation)


def test_fishers_p_is_the_sum_over_all_tables_as_rare(outcomes, masks):
    def chance(approved: int) -> float:
        return math.comb(50, approved) * math.comb(100, 110 - approved) / math.comb(150, 110)

    tables = [chance(approved) for approved in range(10, 51)]
    by_hand = sum(probability for probability in tables if probability <= chance(30) * (1 + 1e-9))
    measures = against_reference(outcomes, *masks)
    assert measures["fisher_p"] == pytest.approx(by_hand)
    assert measures["flagged"]


def test_welchs_p_by_hand(outcomes, masks):
    pd = outcomes.pd
    group, reference = pd[masks[0]], pd[masks[1]]
    t = (group.mean() - reference.mean()) / math.sqrt(group.var(ddof=1) / 50 + reference.var(ddof=1) / 100)
    p = math.erfc(abs(t) / math.sqrt(2))  # 83 degrees of freedom: near the normal
    assert against_reference(outcomes, *masks)["t_p"] == pytest.approx(p, abs=0.004)


def test_a_model_that_tells_nobody_apart_has_no_differences(outcomes, masks):
    measures = against_reference(Outcomes(outcomes.bad, np.full(150, 0.1), 0.2), *masks)
    assert (measures["air"], measures["smd"], measures["t_p"], measures["flagged"]) == (1.0, 0.0, 1.0, False)
    pd = np.where(masks[0], 0.3, 0.1)
    assert against_reference(Outcomes(outcomes.bad, pd, 0.2), *masks)["t_p"] == 0.0


def test_the_ratio_at_a_quantile_approves_that_share(masks):
    pd = np.linspace(0, 1, 150)
    assert adverse_impact(pd, 0.5, *masks) == pytest.approx(0.0)
    assert adverse_impact(pd, 1.0, *masks) == pytest.approx(1.0)
    assert adverse_impact(pd, 0.5, masks[1], masks[0]) is None


def test_equal_groups_are_not_flagged_and_small_ones_left_out(outcomes):
    pd = np.tile([0.1, 0.4], 75)
    even = Outcomes(outcomes.bad, pd, 0.2)
    column = np.array(["a"] * 80 + ["b"] * 50 + ["rare"] * 10 + [None] * 10, dtype=object)
    (measures,) = groups(even, {"side": column})
    assert (measures["by"], measures["group"], measures["reference"]) == ("side", "b", "a")
    assert measures["air"] == pytest.approx(1.0)
    assert not measures["flagged"]
    (against_b,) = groups(even, {"side": column}, {"side": "b"})
    assert (against_b["group"], against_b["reference"]) == ("a", "b")
    assert groups(even, {"side": column}, {"side": "nobody"}) == []


def test_the_search_finds_the_proxy_that_was_planted():
    random = np.random.default_rng(3)
    side, risk = random.random(6_000) < 0.3, random.normal(size=6_000)
    bad = (random.random(6_000) < 1 / (1 + np.exp(2 - risk))).astype(np.int8)
    columns = {"risk": risk, "proxy": 0.9 * side, "noise": random.normal(size=6_000) * 0.01}

    def fitted(candidate: AlternativeModel) -> np.ndarray:
        return sum(column for name, column in columns.items() if name not in candidate.without)

    compared = ComparisonSet(bad, {"side": np.where(side, "left", "right").astype(object)}, 0.7)
    by_name = {
        candidate["name"]: candidate
        for candidate in alternatives(fitted, compared, list(columns), {"risk": 1}, 0.03)
    }
    assert by_name["as it is"]["air"] < 0.8
    assert by_name["without proxy"]["alternative"]
    assert by_name["without proxy"]["air"] > 0.95
    assert not by_name["without risk"]["alternative"]
    assert by_name["without proxy"]["auc"] > by_name["as it is"]["auc"]
    assert not by_name["as it is"]["on_frontier"]
    assert {"monotone", "stumps", "monotone, stumps"} <= set(by_name)


@pytest.mark.skipif(not HMDA.is_dir(), reason="HMDA_DATA names no folder with the HMDA files")
def test_hmda_by_hand():
    from benchmarks.quality import hmda

    columns = hmda.read(HMDA)
    test = hmda.held_out(columns)
    pd = hmda.fit(columns, test, AlternativeModel("as it is"))
    bad = columns["high_priced"][test].astype(np.int8)
    assert auc(bad, pd) >= 0.82
    cutoff = sorted(pd.tolist())[round(0.9 * (len(pd) - 1))]
    by_group = {name: column[test] for name, column in hmda.group_columns(columns).items()}
    measures = groups(Outcomes(bad, pd, cutoff), by_group, hmda.REFERENCES)
    black = next(measure for measure in measures if measure["group"] == "black")
    rows = list(zip(pd.tolist(), columns["black"][test], columns["white"][test], strict=True))
    ours, theirs = [p for p, b, _ in rows if b == 1.0], [p for p, _, w in rows if w == 1.0]
    rate_ours = sum(p <= cutoff for p in ours) / len(ours)
    rate_theirs = sum(p <= cutoff for p in theirs) / len(theirs)
    mean = math.fsum(pd) / len(pd)
    deviation = math.sqrt(math.fsum((p - mean) ** 2 for p in pd) / (len(pd) - 1))
    smd = (math.fsum(ours) / len(ours) - math.fsum(theirs) / len(theirs)) / deviation
    assert black["n"] == len(ours)
    assert black["air"] == pytest.approx(rate_ours / rate_theirs, rel=1e-12)
    assert black["smd"] == pytest.approx(smd, rel=1e-9)
    group_names = {name for names in hmda.GROUPS.values() for name in names}
    assert not group_names & set(hmda.FEATURES)
