"""Tiles of the model report: a figure past its threshold says so in a word and a state."""

from __future__ import annotations

import re

import pytest

from tests.training.evaluated import evaluated
from training.report.page import page
from training.report.verdicts import psi_verdict, verdicts


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("verdicts"))


def changed(evaluation, section, **figures):
    return evaluation | {section: {**evaluation[section], **figures}}


@pytest.mark.parametrize(
    ("section", "figures", "name", "state", "word"),
    [
        ("discrimination", {"auc": 0.8, "auc_low": 0.7}, "auc", "good", "good: interval above 0.65"),
        ("discrimination", {"auc": 0.7, "auc_low": 0.6}, "auc", "watch", "watch: interval reaches 0.65"),
        ("discrimination", {"auc": 0.65, "auc_low": 0.6}, "auc", "act", "act: not above 0.65"),
        ("calibration", {"slope": 1.0, "ece": 0.01}, "calibration", "good", "good: 0.9 to 1.1"),
        ("calibration", {"slope": 0.51, "ece": 0.01}, "calibration", "act", "act: outside 0.9 to 1.1"),
        ("calibration", {"slope": 1.0, "ece": 0.06}, "calibration", "act", "act: error above 5 %"),
        ("profit", {"approval_rate": 0.1, "profit_per_unit": 0.1}, "approvals", "act", "act: below 20 %"),
        (
            "profit",
            {"approval_rate": 0.6, "profit_per_unit": -0.1},
            "approvals",
            "act",
            "act: lends at a loss",
        ),
        ("stability", {"psi": 0.394}, "psi", "act", "act: 0.25 or more"),
        ("leakage", {"suspected": True}, "leakage", "act", "act: look at the findings"),
    ],
)
def test_a_verdict_names_its_threshold(done, section, figures, name, state, word):
    evaluation = changed(done.evaluation, section, **figures)
    assert verdicts(evaluation)[name] == (state, word)
    text = page(evaluation, done.card, {"R1": "one", "R2": "two"})
    tiles = re.search(r'<div class="tiles">(.*?)<section', text, re.DOTALL).group(1)
    assert f'<em class="{state}">{word}</em>' in tiles


def test_a_psi_is_judged_by_the_two_usual_limits():
    assert [psi_verdict(psi).state for psi in (0.0, 0.0999, 0.1, 0.2499, 0.25, 3.0)] == [
        *("good", "good", "watch", "watch", "act", "act")
    ]
