"""Principal reasons: one to four factors that raised the risk against the reference, in a fixed order."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor import Reason
from candor.errors import DefinitionError
from candor.reasons import MAX_REASONS, Catalogue, matches

FEATURES = (
    "loans.count.7d",
    "loans.count.30d",
    "paid.sum.30d",
    "request.amount",
    "device.count.24h",
    "age.last",
)
REASONS = (
    Reason("H1", "The account is under review", "review"),
    Reason("R1", "Number of loans", "loans", ("loans.*",)),
    Reason("R2", "Payments made", "payments", ("paid.*",)),
    Reason("R3", "Amount requested", "amount", ("request.amount",)),
    Reason("R4", "Device", "device", ("device.*",)),
    Reason("R5", "Age of the account", "age", ("age.*",)),
)
MODEL_CODES = ["R1", "R2", "R3", "R4", "R5"]
FACTORS = {"R1": "loans", "R2": "payments", "R3": "amount", "R4": "device", "R5": "age"}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue(REASONS, FEATURES)


def test_contributions_are_summed_per_factor_and_policy_reasons_have_none(catalogue):
    sums = catalogue.by_factor([0.25, 0.5, -1.0, 2.0, 0.0, 4.0])
    assert sums == {"loans": 0.75, "payments": -1.0, "amount": 2.0, "device": 0.0, "age": 4.0}


def test_the_rank_is_by_distance_above_the_reference_not_by_size(catalogue):
    contributions = [0.5, 0.5, 0.9, 3.0, 0.2, 0.1]
    assert catalogue.model_reasons(contributions, {}) == ["R3", "R1", "R2", "R4"]
    reference = {"amount": 3.5, "loans": 0.875, "payments": 0.1, "device": 0.15}
    assert catalogue.model_reasons(contributions, reference) == ["R2", "R1", "R5", "R4"]


def test_ties_are_told_in_catalogue_order(catalogue):
    assert catalogue.model_reasons([0.5, 0.5, 1.0, 1.0, 1.0, 1.0], {}) == ["R1", "R2", "R3", "R4"]
    turned = Catalogue(tuple(reversed(REASONS)), FEATURES)
    assert turned.model_reasons([0.5, 0.5, 1.0, 1.0, 1.0, 1.0], {}) == ["R5", "R4", "R3", "R2"]


def test_only_factors_that_raised_the_risk_are_told(catalogue):
    assert catalogue.model_reasons([-1.0, -1.0, 0.5, 0.0, 0.1, -0.1], {}) == ["R2", "R4"]


def test_at_least_one_is_told_the_factor_nearest_to_raising_it(catalogue):
    assert catalogue.model_reasons([-2.0, -2.0, -1.0, -0.5, -0.7, -3.0], {}) == ["R3"]
    assert catalogue.model_reasons([0.0] * 6, {}) == ["R1"]
    assert catalogue.model_reasons([0.0] * 6, dict.fromkeys(FACTORS.values(), 1.0)) == ["R1"]


def test_a_factor_that_was_not_scored_is_never_told(catalogue):
    assert catalogue.model_reasons([0.0, 0.0, -1.0, 0.0, 0.0, -0.5], {}) == ["R5"]
    assert catalogue.model_reasons([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], {"loans": -1.0}) == ["R2"]


parts = st.floats(-5, 5).map(lambda value: round(value, 1))


@given(st.lists(parts, min_size=6, max_size=6), st.lists(parts, min_size=5, max_size=5))
def test_one_to_four_model_codes_in_the_order_of_a_plain_search(contributions, references):
    catalogue = Catalogue(REASONS, FEATURES)
    reference = dict(zip(FACTORS.values(), references, strict=True))
    codes = catalogue.model_reasons(contributions, reference)
    sums = catalogue.by_factor(contributions)
    scored = {catalogue.factor_of[place] for place, part in enumerate(contributions) if part} or set(
        range(1, 6)
    )
    left = {
        code: sums[FACTORS[code]] - reference[FACTORS[code]]
        for place, code in enumerate(MODEL_CODES, 1)
        if place in scored
    }
    expected = []
    while left and len(expected) < 4:
        best = max(left.values())
        code = next(code for code in MODEL_CODES if left.get(code) == best)
        if best <= 0 and expected:
            break
        expected.append(code)
        if best <= 0:
            break
        del left[code]
    assert codes == expected
    assert 1 <= len(codes) <= MAX_REASONS


def test_the_sum_of_all_factors_is_the_sum_of_all_contributions(catalogue):
    contributions = [0.1, -0.2, 0.3, 1e-9, 5.5, -7.25]
    assert math.isclose(
        sum(catalogue.by_factor(contributions).values()), math.fsum(contributions), rel_tol=1e-12
    )


def test_a_row_of_another_length_is_a_bug_and_says_so(catalogue):
    with pytest.raises(ValueError, match="zip"):
        catalogue.by_factor([0.0] * 5)


@pytest.mark.parametrize(
    ("reasons", "complaint"),
    [
        (REASONS[:-1], r'"age.last" belongs to 0 reasons'),
        ((*REASONS, Reason("R6", "Loans again", "again", ("loans.count.30d",))), r"belongs to 2 reasons"),
        ((*REASONS, Reason("R1", "The same code", "other")), "share a code"),
        ((*REASONS[:-1], Reason("R5", "Age of the account", "loans", ("age.*",))), "share a factor"),
        ((), "belongs to 0 reasons"),
    ],
    ids=["uncovered", "covered twice", "a code twice", "a factor twice", "empty"],
)
def test_a_catalogue_that_could_hide_a_factor_is_refused(reasons, complaint):
    with pytest.raises(DefinitionError, match=complaint):
        Catalogue(reasons, FEATURES)


def test_the_star_of_a_glob_is_literal_about_case():
    with pytest.raises(DefinitionError, match="belongs to 0"):
        Catalogue((Reason("R1", "Loans", "loans", ("Loans.*",)),), ("loans.count.7d",))


@given(st.text("ab.*", max_size=8) | st.text("ab*?[]!-\n", max_size=8), st.text("ab.*\n", max_size=8))
def test_globs_mean_what_fnmatch_says(glob, name):
    assert matches(glob, name) == fnmatchcase(name, glob)
