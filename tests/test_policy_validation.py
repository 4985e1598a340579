"""Validation of tables: unreachable rows, unknown names, missing reasons."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

import lender
from candor.errors import BundleRefused
from candor.model.soundness import require_sound
from candor.policy.validation import Known, faults
from tests.decision_tables import credit_policy, row, table
from tests.reasons.lending import bundle

KNOWN = Known({"loans.count.7d", "request.amount"}, {"loans"}, {"H1", "H2"})
LOANS = 'features["loans.count.7d"]'


def faults_of(rows, hit_policy="collect", **inputs) -> list[str]:
    return faults(table(rows, inputs, hit_policy), KNOWN)


def test_a_whole_table_without_a_fault_has_none():
    assert faults(credit_policy(), known_to_the_table()) == []


def known_to_the_table() -> Known:
    """Features that the table's columns name, their views, and the codes of its hard rules."""
    columns = credit_policy()["nodes"][1]["content"]["inputs"]
    features = {name for each in columns for name in re.findall(r'features\["(.*?)"\]', each["field"])}
    views = {name.partition(".")[0] for name in features}
    return Known(features, views, [f"H{number:02}" for number in range(1, 11)])


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
    [fault] = faults_of([row("fine", "approved", when=""), row("dead", reason="H1", when=cell)], when=field)
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
        row("low", "approved", a="< 10"),
        row("high", reason="H1", a=">= 10"),
        row("none", reason="H1", a="null"),
        row("rest", reason="H2", b='"USD"'),
    ]
    [fault] = faults_of(rows, "first", a=LOANS, b="currency")
    assert fault.startswith("row 4 (rest) never fires: rows before it take all that meet it")
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


@pytest.mark.parametrize(("code", "complaint"), [("N05", "could not be read"), ("N04", "has no event")])
def test_a_bundle_is_refused_that_could_decline_without_a_true_reason(code, complaint):
    reasons = tuple(reason for reason in lender.REASONS if reason.code != code)
    faulty = structs.replace(bundle(), reasons=reasons)
    with pytest.raises(BundleRefused, match=complaint):
        require_sound(faulty, lender.DEFINITIONS)
    require_sound(structs.replace(faulty, reason_basis=None), lender.DEFINITIONS)


Plant = Callable[[dict[str, Any]], None]


def cell(name: str, column: str, text: Any) -> Plant:
    """Write a cell of the table."""
    return lambda content: rule(content, name).update({column: text})


def rule(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in content["rules"] if each["_id"] == name)


def renamed(name: str, column: str, key: str) -> Plant:
    """Put a cell under another key."""

    def plant(content: dict[str, Any]) -> None:
        rule(content, name)[key] = rule(content, name).pop(column)

    return plant


def added(like: str, **cells: str) -> Plant:
    """Add a copy of a row behind all others, with other cells."""
    return lambda content: content["rules"].append({**rule(content, like), **cells})


def column(part: str, key: str, **members: str) -> Plant:
    return lambda content: next(each for each in content[part] if each["id"] == key).update(members)


def first_hit(content: dict[str, Any]) -> None:
    content["hitPolicy"] = "first"


def without_column(content: dict[str, Any]) -> None:
    content["outputs"] = [each for each in content["outputs"] if each["id"] != "outcome"]


def own_currency_alone(content: dict[str, Any]) -> None:
    """The table of a lender in another country, whose units were forgotten: it declines every amount."""
    for each in content["rules"]:
        each.pop("currency", None)
    rule(content, "currency_not_served")["amount"] = "< 1000000000000"
    rule(content, "amount_limit_usd")["amount"] = "> 2000"


PLANTED: dict[str, tuple[Plant, tuple[str, ...]]] = {
    "mistyped column key": (
        renamed("amount_limit_usd", "amount", "amuont"),
        ("row 9 (amount_limit_usd)", 'no column "amuont"', 'did you mean "amount"?'),
    ),
    "cell that is a number": (
        cell("terms_near_cutoff_usd", "limit", 100_000),
        ("row 18 (terms_near_cutoff_usd)", 'column "Most that is lent" (limit)', "put the value in quotes"),
    ),
    "unknown output": (
        column("outputs", "limit", field="limmit"),
        ('column "Most that is lent" (limit)', 'no output "limmit"', 'did you mean "limit"?'),
    ),
    "no outcome column": (without_column, ('no output column "outcome"', "add it")),
    "unknown outcome": (
        cell("open_dispute", "outcome", '"refused"'),
        ("row 2 (open_dispute)", 'column "Outcome"', "refused", 'write "approved", "declined"'),
    ),
    "empty outcome": (
        cell("open_dispute", "outcome", ""),
        ("row 2 (open_dispute)", 'column "Outcome"', "the cell is empty", 'write "approved"'),
    ),
    "unknown component": (
        cell("open_dispute", "component", '"people"'),
        ("row 2 (open_dispute)", 'column "Component"', 'write "policy" or "model"'),
    ),
    "computed outcome": (
        cell("open_dispute", "outcome", 'amount > 5 ? "declined" : "approved"'),
        ("row 2 (open_dispute)", 'column "Outcome"', "must be a constant"),
    ),
    "unknown reason": (
        cell("open_dispute", "reason", '"H20"'),
        ("row 2 (open_dispute)", 'column "Reason"', 'no reason "H20"', 'did you mean "H1'),
    ),
    "reason of the model": (
        cell("open_dispute", "reason", '"R01"'),
        ("row 2 (open_dispute)", 'column "Reason"', 'no reason "R01" for hard rules'),
    ),
    "hard rule without a reason": (
        cell("open_dispute", "reason", "null"),
        ("row 2 (open_dispute)", "needs its reason", "name a reason's code"),
    ),
    "limit that is a text": (
        cell("terms_near_cutoff_usd", "limit", '"100000"'),
        ("row 18 (terms_near_cutoff_usd)", 'column "Most that is lent" (limit)', "without quotes"),
    ),
    "limit with a fraction": (
        cell("terms_near_cutoff_usd", "limit", "1000.50"),
        ("row 18 (terms_near_cutoff_usd)", 'column "Most that is lent" (limit)', "minor units"),
    ),
    "instalments out of range": (
        cell("terms_near_cutoff_usd", "most_installments", "120"),
        ("row 18 (terms_near_cutoff_usd)", 'column "Most instalments"', "from 1 to 60"),
    ),
    "charge in percent of more than all": (
        cell("price_low_risk_usd", "charge_bps", "50000"),
        ("row 20 (price_low_risk_usd)", 'column "Finance charge, basis points"', "from 0 to 10000"),
    ),
    "unknown feature": (
        column("inputs", "failures", field='features["customer_failures.count.31d"]'),
        ('column "Payments failed, 30 days" (failures)', 'did you mean "customer_failures.count.30d"?'),
    ),
    "unknown fact in a cell": (
        cell("amount_limit_usd", "amount", "> ammount"),
        ("row 9 (amount_limit_usd)", 'column "Amount"', 'no fact "ammount"', 'did you mean "amount"?'),
    ),
    "unknown fact behind the root": (
        column("inputs", "amount", field="$root.ammount"),
        ('column "Amount"', 'no fact "ammount"', 'did you mean "amount"?'),
    ),
    "unknown view": (
        column("inputs", "degraded", field='states["customer_loan"] == "absent"'),
        ("column", 'no state "customer_loan"', 'did you mean "customer_loans"?'),
    ),
    "computed feature": (
        column("inputs", "failures", field="features[currency]"),
        ('column "Payments failed, 30 days"', "is computed", "write it in quotes"),
    ),
    "expression that cannot be read": (
        cell("amount_limit_usd", "amount", ">> 200000"),
        ("row 9", 'column "Amount"', "cannot be read", "write a condition"),
    ),
    "condition that nothing meets": (
        cell("score_cutoff", "score", "> 20"),
        ("row 17 (score_cutoff) never fires", "score", "compare its units"),
    ),
    "currency in lower case": (
        cell("amount_limit_usd", "currency", '"usd"'),
        ("row 9 (amount_limit_usd) never fires", "currency", "spelling"),
    ),
    "duplicate row": (
        added("open_dispute", _id="again", rule='"again"'),
        ("row 22 (again) repeats row 2 (open_dispute)", "remove one"),
    ),
    "two rows of one name": (
        added("open_dispute", disputes="> 5"),
        ("row 22 (open_dispute)", 'another row is named "open_dispute"', "rename one"),
    ),
    "model row that reads no score": (
        cell("open_dispute", "component", '"model"'),
        ("row 2 (open_dispute)", 'column "Component"', "no condition reads the score"),
    ),
    "no default": (first_hit, ("row 21 (price_near_cutoff_usd)", "no default", "add a last row")),
    "currency without a limit": (
        cell("currency_not_served", "currency", 'not in ["USD", "NGN", "EUR"]'),
        ('column "Currency"', '"EUR" is lent in without a limit', "NGN, USD", "add a row"),
    ),
    "row without a condition that declines": (
        lambda content: rule(content, "open_dispute").pop("disputes"),
        ("declines everyone", "row 2 (open_dispute)", "conditions on nothing", "compare"),
    ),
    "comparison the wrong way round": (
        lambda content: [rule(content, f"amount_limit_{of}").update(amount="> 0") for of in ("usd", "ngn")],
        ("declines everyone", "row 9 (amount_limit_usd)", 'column "Currency" (currency), column "Amount"'),
    ),
    "amounts that no application has": (
        own_currency_alone,
        ("declines everyone", "row 16 (currency_not_served)", 'column "Amount" (amount)'),
    ),
    "nobody declined": (
        lambda content: content.update(rules=content["rules"][-2:]),
        ("approves everyone", 'give a row the outcome "declined"'),
    ),
    "no row": (lambda content: content.update(rules=[]), ("no row", "approves everyone", "add the rules")),
    "two columns of one id": (
        column("inputs", "loans", id="amount"),
        ('column "Loans so far" (amount)', "another column has the same id", "rename one"),
    ),
    "unknown hit policy": (
        lambda content: content.update(hitPolicy="unique"),
        ("hit policy", 'write "collect"'),
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_with_its_row_its_column_and_the_remedy(name):
    plant, words = PLANTED[name]
    changed = credit_policy()
    plant(changed["nodes"][1]["content"])
    lines = faults(changed, known_to_the_table())
    assert any(all(word in line for word in words) for line in lines), lines
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({}, "has no nodes"),
        ({"nodes": []}, "has no decision table"),
        ({"nodes": [{"type": "decisionTableNode", "id": "t", "name": "t"}]}, "is empty"),
        ({"nodes": "t"}, "has no nodes"),
    ],
)
def test_a_file_that_is_no_table_is_told_so(broken, why):
    assert any(why in fault for fault in faults(broken, KNOWN))


def test_a_table_that_is_not_connected_is_found():
    changed = credit_policy()
    changed["edges"] = changed["edges"][:1]
    [fault] = faults(changed, known_to_the_table())
    assert fault == 'the table "Rules" is not connected with the output node: draw the edge'


def test_applicants_who_pass_only_in_a_corner_are_found_by_the_probes():
    """Whoever has between 3 and 5 loans, of 100 to 200, in naira, passes; nobody else does."""
    rows = [
        row("few", reason="H1", loans="< 3"),
        row("many", reason="H1", loans="> 5"),
        row("unknown", reason="H1", loans="null"),
        row("small", reason="H2", amount="< 100"),
        row("large", reason="H2", amount="> 200"),
        row("abroad", reason="H2", currency='not in ["NGN"]'),
    ]
    assert faults_of(rows, loans=LOANS, amount="amount", currency="currency") == []
    everyone = [*rows[:3], row("middle", reason="H1", loans="[3..5]")]
    [fault] = faults_of(everyone, loans=LOANS)
    assert "declines everyone" in fault
