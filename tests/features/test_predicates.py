"""Filters as data."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor import field, type_is
from candor.contracts import Event
from tests.oracle import _holds

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
    lambda inner: st.builds(lambda left, right: left & right, inner, inner),
    max_leaves=4,
)


@given(predicates, st.sampled_from("abc"), st.dictionaries(st.sampled_from(["x", "y"]), scalars | st.none()))
def test_a_predicate_does_what_its_spec_says(predicate, kind, data):
    spec = json.loads(json.dumps(predicate.spec()))
    event = Event("e", kind, 0, {}, data)
    assert predicate.matches(event) is _holds(spec, event)


@pytest.mark.parametrize("op", list(OPERATORS))
@pytest.mark.parametrize("data", [{}, {"x": None}, {"y": 1}, {"x": "1"}])
def test_a_missing_field_or_one_of_another_kind_never_matches(op, data):
    assert not OPERATORS[op]("x", 1).matches(Event("e", "a", 0, {}, data))


@pytest.mark.parametrize("value", [1.0, True, None, [1]])
def test_only_integers_and_text_compare(value):
    with pytest.raises(TypeError, match="int or str"):
        field("x") == value  # noqa: B015 - building it raises


def test_a_type_filter_needs_a_type():
    with pytest.raises(TypeError, match="at least one"):
        type_is()
