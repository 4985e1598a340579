"""Validation of tables: unreachable rows, unknown names, missing reasons."""

from __future__ import annotations

import pytest
from msgspec import structs

import lender
from candor.errors import BundleRefused
from candor.model.soundness import require_sound
from candor.policy.validation import Known, faults
from tests.decision_tables import row, table
from tests.reasons.lending import bundle

KNOWN = Known({"loans.count.7d", "request.amount"}, {"loans"}, {"H1", "H2"})
LOANS = 'features["loans.count.7d"]'


def faults_of(rows, hit_policy="collect", **inputs) -> list[str]:
    return faults(table(rows, inputs, hit_policy), KNOWN)


def test_the_lenders_own_table_has_no_fault():
    assert faults(lender.policy(), lenders_own()) == []


def lenders_own() -> Known:
    codes = [reason.code for reason in lender.REASONS if not reason.features]
    return Known(lender.DEFINITIONS.features, [view.name for view in lender.DEFINITIONS.views], codes)


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        ("score", "> 1.5"),
        ("score", "< 0"),
        ("score", "> cutoff and < cutoff / 2"),
        ("amount", "< 1"),
        ("amount", "> 5000 and < 3000"),
        ("amount", "> 3 and < 4"),
        ("installments", "> 60"),
        ("currency", '"usd"'),
        ("currency", 'in ["XXX", "YYY"]'),
        ("degraded", '"yes"'),
        ("states.loans", '"gone"'),
        (LOANS, "> 5 and < 5"),
        (LOANS, "[9..3]"),
    ],
)
def test_a_condition_that_nothing_meets_is_a_row_that_never_fires(field, cell):
    [fault] = faults_of([row("fine", reason="H1", when=""), row("dead", reason="H1", when=cell)], when=field)
    assert fault.startswith("row 2 (dead) never fires")


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        ("score", "> cutoff / 2 and <= cutoff"),
        ("score", "(cutoff / 2..cutoff]"),
        ("score", "null"),
        ("amount", "[3..4]"),
        ("currency", 'not in ["USD"]'),
        ("degraded", "true"),
        ("states.loans", '"stale"'),
        ("states.request", '"unavailable"'),
        (LOANS, "> 5 and < 6"),
        (LOANS, "< -3"),
        (LOANS, "> amount"),
    ],
)
def test_a_condition_that_something_meets_is_none(field, cell):
    assert faults_of([row("fires", reason="H1", when=cell)], when=field) == []


def test_two_columns_of_one_fact_must_hold_together():
    rows = [
        row("dead", reason="H1", low="> 10", high="< 5"),
        row("fires", reason="H1", low="> 1", high="< 5"),
    ]
    [fault] = faults_of(rows, low=LOANS, high=LOANS)
    assert "row 1 (dead)" in fault


def test_of_the_first_hit_a_row_that_others_cover_together_is_found():
    rows = [
        row("low", reason="H1", a="< 10"),
        row("high", reason="H1", a=">= 10"),
        row("none", reason="H1", a="null"),
        row("rest", reason="H2", b='"USD"'),
    ]
    [fault] = faults_of(rows, "first", a=LOANS, b="currency")
    assert fault == "row 4 (rest) never fires: rows before it take all that meet it"
    open_rows = [rows[0], rows[1], row("rest", reason="H2")]
    assert faults_of(open_rows, "first", a=LOANS, b="currency") == [], "who has no loans meets the last"
    assert faults_of(rows, a=LOANS, b="currency") == [], "where all rows fire none takes another's place"


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ('features["loans.count.30d"]', 'no feature "loans.count.30d"'),
        ("features.loans", 'no feature "loans"'),
        ("states.devices", 'no state "devices"'),
        ("ammount", 'no fact "ammount"'),
    ],
)
def test_a_name_that_nothing_has_is_found(field, why):
    assert any(why in fault for fault in faults_of([row("r", reason="H1", when="> 0")], when=field))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"reason": "null"}, "needs its reason"),
        ({"reason": '"H9"'}, 'no reason "H9"'),
        ({"outcome": '"maybe"'}, "maybe"),
        ({"outcome": 'amount > 3 ? "declined" : "approved"'}, "constant"),
        ({"component": '"model"'}, "no condition reads the score"),
        ({"outcome": '"approved"', "reason": "null", "limit": "100"}, "needs its reason"),
        ({"outcome": '"approved"', "limit": "0"}, "limit"),
        ({"outcome": '"approved"', "limit": "10.5"}, "limit"),
    ],
)
def test_an_outcome_without_its_reason_is_found(changes, why):
    [fault] = faults_of([row("r", reason="H1", when="> 5") | {"limit": "null"} | changes], when="amount")
    assert why in fault


def test_a_currency_that_is_accepted_and_not_limited_is_found():
    rows = [row("limit", reason="H1", currency='"USD"', amount="> 5")]
    inputs = {"currency": "currency", "amount": "amount"}
    assert faults(table(rows, inputs), KNOWN._replace(currencies=["USD"])) == []
    [fault] = faults(table(rows, inputs), KNOWN._replace(currencies=["EUR", "USD"]))
    assert fault.startswith('currency "EUR" is declared, and no row of the policy table limits its amounts')


def test_a_bundle_whose_table_does_not_lend_in_an_accepted_currency_is_not_built():
    with pytest.raises(BundleRefused, match='currency "ISK" is declared, and no row'):
        require_sound(bundle(), lender.DEFINITIONS, ["ISK"])


def test_two_rows_of_one_name_are_found():
    [fault] = faults_of([row("r", reason="H1", when="> 5"), row("r", reason="H1", when="> 9")], when="amount")
    assert 'another row is named "r"' in fault


def test_a_bundle_with_a_fault_is_not_built_and_all_are_told_in_one_line():
    broken = table([row("r", reason="H99", when="< 0")], {"when": "amount"})
    with pytest.raises(BundleRefused, match="never fires") as error:
        require_sound(structs.replace(bundle(), policy=broken), lender.DEFINITIONS)
    assert "H99" in str(error.value)
    assert "\n" not in str(error.value)
