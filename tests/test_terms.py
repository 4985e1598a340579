"""Terms under limits: integers, never more than requested, and counter-offers flagged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.terms import TermLimits, Terms, granted, is_counter_offer
from tests.reasons.lending import requested

limits = st.builds(
    TermLimits,
    st.none() | st.integers(1, 10**6),
    st.none() | st.integers(1, 60),
    st.none() | st.integers(0, 10_000),
)


def test_without_limits_all_is_as_it_was_asked_for():
    request = requested(4_001, 6, 123)
    assert granted(TermLimits(), request) == Terms(4_001, 6, 123)
    assert not is_counter_offer(Terms(4_001, 6, 123), request)


@pytest.mark.parametrize(
    ("limit", "terms", "counter"),
    [
        (TermLimits(limit=3_000), Terms(3_000, 6, 89), True),
        (TermLimits(installments=4), Terms(4_001, 4, 119), True),
        (TermLimits(charge_bps=1_000), Terms(4_001, 6, 400), True),
        (TermLimits(charge_bps=100), Terms(4_001, 6, 40), False),
        (TermLimits(limit=5_000, installments=12), Terms(4_001, 6, 119), False),
    ],
)
def test_each_limit_leaves_its_part(limit, terms, counter):
    request = requested(4_001, 6, 119)
    assert granted(limit, request) == terms
    assert is_counter_offer(terms, request) is counter


@given(limits, limits, limits)
def test_the_strictest_of_limits_does_not_depend_on_their_order(first, second, third):
    assert first.strictest(second) == second.strictest(first)
    assert first.strictest(second).strictest(third) == first.strictest(second.strictest(third))
    assert first.strictest(TermLimits()) == first == first.strictest(first)


@given(limits, st.integers(1, 10**6), st.integers(1, 60), st.integers(0, 10**6))
def test_never_more_is_granted_than_was_asked_for(limit, total, installments, charge):
    request = requested(total, installments, charge)
    terms = granted(limit, request)
    assert 1 <= terms.amount <= total
    assert 1 <= terms.installments <= installments
    assert terms.finance_charge >= 0
