"""Tables of names and values: nested members have rows, and values are words."""

from __future__ import annotations

import math

import pytest

from cli.figures import FIGURES, registered_figures, validation_auc
from cli.output import print_pairs, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        ([], "none"),
        ({}, "none"),
        ("", "none"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (0.1695932958958025, "0.169593"),
        (["R01", "R02"], "R01, R02"),
        ([1, None], "1, none"),
        ("a word", "a word"),
    ],
)
def test_values_are_words(value, text):
    assert text_of(value) == text


def test_members_have_rows_of_their_own(capsys):
    print_pairs(
        {"id": "d1", "terms": {"amount": 5, "parts": []}, "items": [{"sku": "a"}, {"sku": "b"}], "none": {}}
    )
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in capsys.readouterr().out.splitlines()[1:-1]
    ]
    assert rows == [
        ["id", "d1"],
        ["terms.amount", "5"],
        ["terms.parts", "none"],
        ["items.1.sku", "a"],
        ["items.2.sku", "b"],
        ["none", "none"],
    ]


def test_figures_of_a_registration_have_names_and_units():
    metrics = {"auc": 0.70297, "slope": 0.51, "approval_rate": 0.809339, "new_one": 1.5}
    assert registered_figures(metrics) == {
        "validation AUC": "0.7030",
        "calibration slope": "0.5100",
        "approved at the cut-off": "80.93%",
        "new_one": "1.5",
    }
    assert validation_auc(metrics) == "0.7030"
    assert validation_auc(metrics | {"auc_low": 0.6, "auc_high": 0.8}) == "0.7030 (95 %: 0.600 to 0.800)"
    assert validation_auc({}) is None


def test_every_figure_has_a_name_of_its_own():
    names = [figure.name for figure in FIGURES.values()]
    assert len(set(names)) == len(names)
    assert all(figure.text(math.pi) for figure in FIGURES.values())
