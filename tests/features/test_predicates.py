"""Filters as data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor import Count, field, type_is
from candor.contracts import Event
from candor.errors import DefinitionError
from simulation.oracle import _holds

OPERATORS = {
    "==": lambda name, value: field(name) == value,
    "!=": lambda name, value: field(name) != value,
    "<": lambda name, value: field(name) < value,
    "<=": lambda name, value: field(name) <= value,
    ">": lambda name, value: field(name) > value,
    ">=": lambda name, value: field(name) >= value,
}
scalars = st.integers(-3, 3) | st.sampled_from(["", "a", "b", "3"])
comparisons = st.builds(
    lambda op, name, value: OPERATORS[op](name, value),
    st.sampled_from(list(OPERATORS)), st.sampled_from(["x", "y"]), scalars,
)  # fmt: skip
predicates = st.recursive(
    comparisons | st.lists(st.sampled_from("abc"), min_size=1).map(lambda types: type_is(*types)),
    lambda inner: (
        st.builds(lambda left, right: left & right, inner, inner)
        | st.builds(lambda left, right: left | right, inner, inner)
        | inner.map(lambda condition: ~condition)
    ),
    max_leaves=5,
)
events = st.builds(
    lambda kind, data: Event("e", kind, 0, {}, data),
    st.sampled_from("abc"), st.dictionaries(st.sampled_from(["x", "y"]), scalars | st.none()),
)  # fmt: skip


@given(predicates, events)
def test_a_predicate_does_what_its_spec_says(predicate, event):
    spec = json.loads(json.dumps(predicate.spec()))
    assert predicate.matches(event) is _holds(spec, event)


@given(predicates, predicates, events)
def test_the_three_operators_are_those_of_two_valued_logic(first, second, event):
    left, right = first.matches(event), second.matches(event)
    assert (first & second).matches(event) is (left and right)
    assert (first | second).matches(event) is (left or right)
    assert (~first).matches(event) is not left
    assert (~(first & second)).matches(event) is (~first | ~second).matches(event)


@pytest.mark.parametrize("data", [{}, {"x": None}, {"x": "text"}])
def test_not_matches_where_the_field_is_missing_and_the_opposite_comparison_does_not(data):
    event = Event("e", "a", 0, {}, data)
    assert (~(field("x") > 100)).matches(event)
    assert not (field("x") <= 100).matches(event)


def test_not_of_a_type_is_every_other_type():
    matched = [(~type_is("a", "b")).matches(Event("e", kind, 0, {}, {})) for kind in "abc"]
    assert matched == [False, False, True]


large, card = field("amount") > 100, field("method") == "card"


def test_specs_and_labels():
    assert (large & card).spec() == ["and", ["cmp", "amount", ">", 100], ["cmp", "method", "==", "card"]]
    assert (large | card).spec() == ["or", large.spec(), card.spec()]
    assert (~large).spec() == ["not", large.spec()]
    labels = [Count(where=where).label for where in (large & card, large | card, ~type_is("a.b"))]
    assert labels == [
        "count_amount_above_100_method_is_card",
        "count_amount_above_100_or_method_is_card",
        "count_not_a_b",
    ]


SILENT = {
    "or": lambda: large or card,
    "and": lambda: large and card,
    "not": lambda: not large,
    "chained": lambda: 1 < field("amount") < 5,
    "if": lambda: 1 if large else 2,
    "in": lambda: field("amount") in (1, 2),
    "a field alone": lambda: field("amount") or card,
    "no parentheses, or": lambda: field("amount") > 100 | card,
    "no parentheses, and": lambda: field("amount") > 100 & card,
    "no parentheses, field": lambda: card | field("amount") > 100,
    "no parentheses, two fields": lambda: field("amount") > 100 & field("days") > 3,
    "no parentheses, text": lambda: field("method") == "card" | large,
    "no parentheses, not": lambda: ~field("amount") > 100,
    "a number": lambda: card & 1,
}


@pytest.mark.parametrize("write", SILENT.values(), ids=SILENT)
def test_what_python_would_read_otherwise_is_refused_with_the_remedy(write):
    with pytest.raises(DefinitionError, match=r"with &, \| and ~, and put each comparison in parentheses"):
        write()


@pytest.mark.parametrize("where", [True, "amount > 100", field("amount"), type_is])
def test_a_filter_is_a_condition_and_nothing_else(where):
    with pytest.raises(DefinitionError, match="where= takes a condition"):
        Count(where=where)


@pytest.mark.parametrize("op", list(OPERATORS))
@pytest.mark.parametrize("data", [{}, {"x": None}, {"y": 1}, {"x": "1"}])
def test_a_missing_field_or_one_of_another_kind_never_matches(op, data):
    assert not OPERATORS[op]("x", 1).matches(Event("e", "a", 0, {}, data))


@pytest.mark.parametrize("value", [1.0, True, None, [1]])
def test_only_integers_and_text_compare(value):
    with pytest.raises(TypeError, match="int or str"):
        field("x") == value  # noqa: B015 - building it raises


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_integers_beyond_64_bits_compare_nowhere(value):
    with pytest.raises(TypeError, match="64 bits"):
        field("x") > value  # noqa: B015 - building it raises
    assert (field("x") < 2**63 - 1).matches(Event("e", "a", 0, {}, {"x": 1}))


def test_a_type_filter_needs_a_type():
    with pytest.raises(TypeError, match="at least one"):
        type_is()


@pytest.mark.parametrize("types", [(["a", "b"],), ("a", None), (field("a"),)])
def test_a_type_filter_takes_names(types):
    with pytest.raises(TypeError, match="names of event types"):
        type_is(*types)
