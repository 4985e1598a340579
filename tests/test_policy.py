"""Rows that fire combine to one verdict; invalid tables are refused before they serve."""

from __future__ import annotations

import itertools
import math

import pytest

from candor.errors import PolicyError
from candor.policy import Facts, Policy, PolicyVerdict, TableRow, combine
from tests.decision_tables import row, table

OUTCOMES = ("approved", "declined", "action_required")
KINDS = [
    TableRow(f"{outcome[0]}{component[0]}{reason}", outcome, component, reason)
    for outcome in OUTCOMES
    for component in ("policy", "model")
    for reason in ("H1", "H2", None)
    if (outcome, component, reason) != ("declined", "policy", None)
]


def facts(**known) -> Facts:
    nothing = {
        "score": None,
        "cutoff": 0.5,
        "amount": 5_000,
        "currency": "USD",
        "degraded": False,
        "features": {"missing": math.nan, "two": 2.0, "zero": 0.0},
        "states": {"customer": "present"},
    }
    return Facts(**(nothing | known))


def fires(condition: str, expression: str = 'features["missing"]', **known) -> bool:
    policy = Policy(table([row("r", reason="H1", when=condition)], {"when": expression}))
    return policy.decide(facts(**known)).rules == ["r"]


# Combining


def test_every_combination_of_up_to_three_rows_gives_the_verdict_that_its_worst_row_demands():
    for rows in itertools.chain.from_iterable(itertools.product(KINDS, repeat=n) for n in range(4)):
        outcomes = {row.outcome for row in rows}
        hard = [r for r in rows if (r.outcome, r.component) == ("declined", "policy")]
        verdict = combine(list(rows))
        assert verdict.rules == [r.rule for r in rows]
        if "declined" in outcomes:
            assert verdict.outcome == "declined"
            assert verdict.component == ("policy" if hard else "model")
        elif "action_required" in outcomes:
            assert (verdict.outcome, verdict.component) == ("action_required", "policy")
        else:
            assert (verdict.outcome, verdict.component) == ("approved", None)
        codes = [r.reason for r in hard]
        assert verdict.reasons == sorted(set(codes), key=codes.index)


def test_a_hard_rule_speaks_alone_even_where_the_score_failed_too():
    verdict = combine(
        [TableRow("score", "declined", "model", "M1"), TableRow("flag", "declined", "policy", "H1")]
    )
    assert verdict == PolicyVerdict("declined", "policy", ["score", "flag"], ["H1"])


# Tables


def test_rows_fire_in_table_order_and_all_that_hold_do():
    policy = Policy(
        table(
            [
                row("review", "action_required", amount="> 100"),
                row("limit", reason="H2", amount="> 1000"),
                row("never", reason="H9", amount="> 100000"),
                row("score", component="model", score="> cutoff"),
                row("flag", reason="H1", amount="> 10", currency='"USD"'),
            ],
            {"amount": "amount", "score": "score", "currency": "currency"},
        )
    )
    verdict = policy.decide(facts(score=0.7))
    assert verdict == PolicyVerdict("declined", "policy", ["review", "limit", "score", "flag"], ["H2", "H1"])
    assert policy.decide(facts(amount=200)).rules == ["review", "flag"]
    assert policy.decide(facts(amount=1)) == PolicyVerdict("approved", None, [], [])


@pytest.mark.parametrize(
    ("fired", "outcome", "component", "reasons"),
    [
        (row("a", "approved", when=""), "approved", None, []),
        (row("r", "action_required", when=""), "action_required", "policy", []),
        (row("d", "declined", reason="H1", when=""), "declined", "policy", ["H1"]),
        (row("s", "declined", component="model", when=""), "declined", "model", []),
    ],
)
def test_every_kind_of_outcome_leaves_a_table(fired, outcome, component, reasons):
    verdict = Policy(table([fired], {"when": "amount"})).decide(facts())
    assert (verdict.outcome, verdict.component, verdict.reasons) == (outcome, component, reasons)


def test_a_table_sees_score_cutoff_amount_currency_features_and_states():
    seen = {
        "score": "> cutoff",
        "amount": "5000",
        "currency": '"USD"',
        "degraded": "true",
        'features["two"]': "2",
        "features.two - features.zero": "[2..2]",
        "states.customer": '"unavailable"',
    }
    columns = {f"c{place}": expression for place, expression in enumerate(seen)}
    conditions = {f"c{place}": condition for place, condition in enumerate(seen.values())}
    policy = Policy(table([row("r", reason="H1", **conditions)], columns))
    known = {"score": 0.6, "degraded": True, "states": {"customer": "unavailable"}}
    assert policy.decide(facts(**known)).rules == ["r"]
    for change in ({"score": 0.5}, {"amount": 5001}, {"degraded": False}, {"states": {"customer": "absent"}}):
        assert policy.decide(facts(**(known | change))).rules == []


def test_a_score_one_bit_above_the_cutoff_is_above_it():
    cutoff = 0.1234567890123456
    above = math.nextafter(cutoff, 1.0)
    assert not fires("> cutoff", "score", score=cutoff, cutoff=cutoff)
    assert fires("> cutoff", "score", score=above, cutoff=cutoff)
    assert not fires("> cutoff", "score", score=cutoff, cutoff=above)


# Missing values


@pytest.mark.parametrize("condition", ["> 0", "< 0", ">= 0", "<= 0", "== 0", "0", "[0..1]", "in [0, 1]"])
@pytest.mark.parametrize(
    "expression",
    [
        'features["missing"]',
        'features["missing"] - features["two"]',
        'features["missing"] / features["two"]',
        'features["undeclared"]',
        "score",
    ],
)
def test_a_missing_value_is_neither_above_nor_below_nor_equal(condition, expression):
    assert not fires(condition, expression)


@pytest.mark.parametrize("condition", ["!= 0", "not in [0, 1]", "null", ""])
def test_what_a_missing_value_does_meet(condition):
    assert fires(condition)


def test_a_missing_cutoff_lets_no_score_rule_fire():
    assert not fires("> cutoff", "score", score=0.9, cutoff=None)


# Broken tables


def changed(change) -> dict:
    whole = table([row("r", reason="H1", when="> 0")], {"when": "amount"})
    change(whole, whole["nodes"][1])
    return whole


def cell(column: str, text: str):
    return lambda whole, node: node["content"]["rules"][0].__setitem__(column, text)


BROKEN = {
    "no nodes": lambda whole, node: whole.update(nodes=[]),
    "no edges key": lambda whole, node: whole.pop("edges"),
    "a node without a type": lambda whole, node: node.pop("type"),
    "an unknown node": lambda whole, node: node.update(type="oracleNode"),
    "a circle": lambda whole, node: whole["edges"].append(
        {"id": "again", "sourceId": "table", "targetId": "table", "type": "edge"}
    ),
    "a table that nothing leads to": lambda whole, node: whole.update(edges=[]),
    "no column for the rule": lambda whole, node: node["content"]["outputs"].pop(0),
    "no column for the outcome": lambda whole, node: node["content"]["outputs"].pop(1),
    "a condition cut short": cell("when", ">"),
    "a condition that is no expression": cell("when", "a b"),
    "an outcome cut short": cell("outcome", '"declined'),
    "an input that does not compile": lambda whole, node: node["content"]["inputs"][0].update(field="(("),
    "a first-match table without a default": lambda whole, node: node["content"].update(hitPolicy="first"),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_broken_table_is_refused_before_it_serves(damage):
    broken = changed(damage)
    with pytest.raises(PolicyError, match="the policy table"):
        Policy(broken)


@pytest.mark.parametrize("empty", [{}, {"nodes": [], "edges": []}])
def test_what_is_no_table_at_all_is_refused(empty):
    with pytest.raises(PolicyError, match="not valid"):
        Policy(empty)


@pytest.mark.parametrize(
    ("column", "text"),
    [("outcome", '"maybe"'), ("outcome", ""), ("component", '"weather"'), ("rule", "1"), ("reason", "7")],
)
def test_a_row_that_says_nonsense_when_it_fires_gives_no_verdict(column, text):
    policy = Policy(changed(cell(column, text)))
    assert policy.decide(facts(amount=0)).outcome == "approved"
    with pytest.raises(PolicyError, match="no verdict"):
        policy.decide(facts(amount=1))


@pytest.mark.parametrize("reason", ["null", '""', ""])
def test_a_hard_rule_that_declines_without_a_reason_gives_no_verdict(reason):
    with pytest.raises(PolicyError, match="needs its reason"):
        Policy(changed(cell("reason", reason))).decide(facts())


def test_a_number_that_the_table_cannot_hold_gives_no_verdict():
    policy = Policy(table([row("r", reason="H1", when="> 0")], {"when": 'features["two"]'}))
    with pytest.raises(PolicyError, match="no verdict"):
        policy.decide(facts(features={"two": 1e300}))


def test_errors_are_one_line_and_name_the_place():
    with pytest.raises(PolicyError) as error:
        Policy(changed(cell("when", ">")))
    assert 'row 1, column "when": the expression cannot be read' in str(error.value)
    assert "\n" not in str(error.value)
