"""Ten evaluations, each worse in one gate: exactly that gate fails, with its reason."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.errors import BundleRefused
from candor.registry.gates import (
    GATES,
    Failure,
    Thresholds,
    compared_with_champion,
    failures,
    require_evaluation_of,
)
from tests.registry.evaluations import BUNDLE, WORSE, sound

THRESHOLDS = Thresholds()


def test_there_is_a_case_for_every_gate():
    assert list(WORSE) == list(GATES)
    assert len(GATES) == 10


def test_what_is_sound_passes():
    assert failures(sound(), THRESHOLDS) == []


@pytest.mark.parametrize("gate", GATES)
def test_what_is_worse_in_one_gate_is_refused_by_it_alone_and_told_why(gate):
    evaluation, reason = WORSE[gate]
    assert failures(evaluation(), THRESHOLDS) == [Failure(gate, reason)]


FIGURES = {
    "quality": ("discrimination", "auc_low"),
    "calibration": ("calibration", "slope"),
    "stability": ("stability", "psi"),
    "latency": ("latency", "score_us_p99"),
    "parity": ("parity", "mismatches"),
    "reasons": ("reasons", "stability"),
    "approval": ("profit", "approval_rate"),
    "profit": ("profit", "profit_per_unit"),
}
"""One figure that each gate reads and that no other may."""


@given(gate=st.sampled_from(sorted(FIGURES)), value=st.floats(allow_nan=True, allow_infinity=True))
def test_whatever_one_gate_is_told_no_other_speaks(gate, value):
    part, figure = FIGURES[gate]
    evaluation = sound()
    evaluation[part][figure] = value
    assert {failure.gate for failure in failures(evaluation, THRESHOLDS)} <= {gate}


@given(air=st.floats(0.0, 2.0))
def test_the_adverse_impact_ratio_is_the_fairness_gates_alone(air):
    evaluation = sound()
    evaluation["fairness"]["groups"][0]["air"] = air
    assert [failure.gate for failure in failures(evaluation, THRESHOLDS)] == (
        ["fairness"] if air < 0.8 else []
    )


@pytest.mark.parametrize(("part", "gate"), [
    ("discrimination", "quality"), ("calibration", "calibration"), ("stability", "stability"),
    ("latency", "latency"), ("parity", "parity"), ("reasons", "reasons"), ("leakage", "leakage"),
])  # fmt: skip
@pytest.mark.parametrize("value", [None, {}, [], "text", 7])
def test_a_part_that_must_be_there_and_is_not_fails_its_gate(part, gate, value):
    assert {each.gate for each in failures(sound(**{part: value}), THRESHOLDS)} == {gate}


@pytest.mark.parametrize("value", [None, "0.7", True, float("nan"), float("inf"), [0.7]])
def test_what_is_no_number_proves_nothing(value):
    evaluation = sound()
    evaluation["discrimination"]["auc_low"] = value
    [failure] = failures(evaluation, THRESHOLDS)
    assert failure == Failure("quality", "the evaluation has no discrimination.auc_low: evaluate again")


def test_what_does_not_apply_is_not_judged():
    assert failures(sound(champion=None, comparison=None, fairness=None), THRESHOLDS) == []


def test_a_champion_that_cannot_be_compared_with_refuses_nobody_and_is_told():
    assert failures(sound(comparison=None), THRESHOLDS) == []
    assert not compared_with_champion(sound(comparison=None))
    assert compared_with_champion(sound())
    assert compared_with_champion(sound(champion=None, comparison=None))


def test_a_comparison_without_its_figures_proves_nothing():
    [failure] = failures(sound(comparison={"auc_difference": 0.1}), THRESHOLDS)
    assert failure == Failure("quality", "the evaluation has no comparison.low: evaluate again")


def test_no_groups_are_no_finding():
    assert failures(sound(fairness={"groups": [], "alternatives": []}), THRESHOLDS) == []


@pytest.mark.parametrize(
    ("low", "high", "why"),
    [
        (-0.029, 0.0, None),
        (-0.03, 0.02, None),
        (-0.031, 0.02, "may be worse than the champion by 0.0310"),
        (-0.02, -0.001, "worse than the champion with confidence"),
        (-0.2, -0.1, "worse than the champion with confidence"),
    ],
)
def test_not_worse_than_the_champion_with_confidence(low, high, why):
    failed = failures(
        sound(comparison={"auc_difference": (low + high) / 2, "low": low, "high": high}), THRESHOLDS
    )
    assert [each.gate for each in failed] == ([] if why is None else ["quality"])
    assert why is None or why in failed[0].reason


def test_an_auc_at_the_minimum_is_not_above_it():
    evaluation = sound()
    evaluation["discrimination"]["auc_low"] = 0.65
    assert [failure.gate for failure in failures(evaluation, THRESHOLDS)] == ["quality"]
    assert failures(evaluation, replace(THRESHOLDS, min_auc=0.6499)) == []


def test_every_group_is_told():
    groups = [{"group": name, "reference": "a", "n": 9, "air": 0.5, "smd": 0.1} for name in "bcd"]
    failed = failures(sound(fairness={"groups": groups, "alternatives": []}), THRESHOLDS)
    assert [each.reason.split(" against")[0][-1] for each in failed] == ["b", "c", "d"]


def test_nothing_compared_is_no_parity():
    assert [each.gate for each in failures(sound(parity={"rows": 0, "mismatches": 0}), THRESHOLDS)] == [
        "parity"
    ]


def test_an_empty_evaluation_passes_no_gate_that_needs_a_figure():
    assert {each.gate for each in failures({}, THRESHOLDS)} == set(GATES) - {"fairness"}


def test_thresholds_are_read_whole_or_not_at_all():
    written = asdict(THRESHOLDS)
    assert Thresholds.parse(json.dumps(written)) == THRESHOLDS
    for wrong in ({**written, "min_gini": 0.4}, {**written} | {"min_auc": "much"}, {}, [1]):
        with pytest.raises(ValueError):
            Thresholds.parse(json.dumps(wrong))


@pytest.mark.parametrize(
    ("evaluation", "why"),
    [
        ({"format": 2, "bundle": BUNDLE}, "format 1"),
        ([], "format 1"),
        ({"format": 1, "bundle": "x"}, "is not about bundle bbbbbbbbbbbb"),
        ({"format": 1}, "is not about"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(evaluation, why):
    with pytest.raises(BundleRefused, match=why):
        require_evaluation_of(evaluation, BUNDLE)
