"""A lender's acceptance: declared codes, and a currency that the policy table lends in."""

from __future__ import annotations

import copy
from importlib import resources

import pytest

import lender
from candor import Acceptance
from candor.errors import DefinitionError
from candor.iso_codes import COUNTRIES
from tests.decision_tables import row, table

LIMITED = [row("limit_usd", reason="H1", currency='"USD"', amount="> 100")]
INPUTS = {"currency": "currency", "amount": "amount", "score": "score"}


def acceptance(rows=LIMITED, **changes) -> Acceptance:
    declared = {"currencies": ["USD"], "products": ["pay_in_4"], "countries": ["US"]} | changes
    return Acceptance(**declared, policy=table(rows, INPUTS))


def refusal(rows=LIMITED, **changes) -> str:
    with pytest.raises(DefinitionError) as refused:
        acceptance(rows, **changes)
    return str(refused.value)


def test_countries_are_those_of_iso_3166():
    """Against the time zone database's copy of the standard."""
    listed = resources.files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text("utf-8").splitlines()
    assert {line.partition("\t")[0] for line in listed if not line.startswith("#")} == COUNTRIES


def test_without_countries_all_of_the_standard_are_taken_and_none_beside():
    declared = Acceptance(currencies=["USD"], products=["p"], policy=table(LIMITED, INPUTS))
    assert declared.countries == COUNTRIES
    assert "ZZ" not in declared.countries


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"currencies": ["usd"]}, 'currencies: "usd" is no code of ISO 4217'),
        ({"countries": ["US", "ZZ"]}, 'countries: "ZZ" is no code of ISO 3166-1 alpha-2'),
        ({"countries": ["us"]}, '"us" is no code'),
        ({"products": []}, "declare products"),
        ({"products": "pay_in_4"}, 'products="pay_in_4" would name its letters'),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(changes, why):
    assert why in refusal(**changes)


@pytest.mark.parametrize(
    "cell", ['"EUR"', '"USD", "EUR"', 'in ["USD", "EUR"]', "'EUR'", 'not in ["USD"]', '!= "USD"', ""]
)
@pytest.mark.parametrize(
    "limiting",
    [
        row("limit_eur", reason="H1", amount="> 100"),
        row("limit_eur", "approved", reason="H1") | {"limit": "100"},
    ],
    ids=["a row that declines more", "a row that lends less"],
)
def test_a_currency_whose_amounts_a_row_limits_is_taken(cell, limiting):
    rows = [*LIMITED, limiting | {"currency": cell}]
    assert acceptance(rows, currencies=["USD", "EUR"]).currencies == {"USD", "EUR"}


@pytest.mark.parametrize(
    "other",
    [
        row("score_eur", component="model", currency='"EUR"', score="> 0.5"),
        row("limit_jpy", reason="H1", currency='"JPY"', amount="> 100"),
        row("limit_rest", reason="H1", currency='not in ["EUR", "USD"]', amount="> 100"),
        row("no_limit", "approved", component="model", currency='"EUR"') | {"limit": "null"},
    ],
    ids=lambda other: other["_id"],
)
def test_a_currency_without_limits_in_the_table_is_refused(other):
    assert 'currency "EUR" is declared, and no row' in refusal([*LIMITED, other], currencies=["USD", "EUR"])


def test_a_currency_that_a_row_declines_whatever_the_rest_is_refused():
    rows = [
        row("limits", reason="H1", currency='in ["USD", "EUR"]', amount="> 100"),
        row("not_served", reason="H1", currency='not in ["USD"]'),
    ]
    assert acceptance(rows).currencies == {"USD"}
    assert 'row "not_served" of the policy table declines all of it' in refusal(
        rows, currencies=["USD", "EUR"]
    )


def test_the_example_lender_takes_what_its_table_limits():
    for currency in lender.ACCEPTANCE.currencies:
        without = copy.deepcopy(lender.policy())
        (content,) = [node["content"] for node in without["nodes"] if node["type"] == "decisionTableNode"]
        content["rules"] = [
            each for each in content["rules"] if f'"{currency}"' not in each.get("currency", "")
        ]
        with pytest.raises(DefinitionError, match=f'"{currency}" is declared, and no row'):
            Acceptance(currencies=[currency], products=["p"], policy=without)
