"""Numbers as text: money by its currency's decimals, durations, missing values, and the declared units of features."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor import (
    Count,
    EventType,
    FeatureView,
    Integer,
    LastK,
    Mean,
    Money,
    Ratio,
    Sum,
    TimeSinceLast,
    Variance,
)
from candor.features.event_types import Entity
from candor.features.units import units, view_units
from candor.units import duration, exact, exponent, money, quantity
from lender import DEFINITIONS
from tests.examples import examples


@pytest.mark.parametrize(
    ("minor", "currencies", "text"),
    [
        (24_999, ["USD"], "249.99 USD"),
        (24_999, ["JPY"], "24,999 JPY"),
        (1_234_567, ["KWD"], "1,234.567 KWD"),
        (-5, ["USD"], "-0.05 USD"),
        (454.5, ["NGN"], "4.54 NGN"),
        (25_250, ["USD", "NGN"], "252.50 NGN or USD"),
        (25_250, ["USD", "JPY"], "25,250 minor units"),
        (25_250, [], "25,250 minor units"),
        (25_250, ["XXX"], "25,250 minor units"),
    ],
)
def test_money_is_in_major_units_with_its_currency(minor, currencies, text):
    assert money(minor, currencies) == text


def test_currencies_share_decimals_or_not():
    assert (exponent(["USD", "EUR"]), exponent(["JPY"]), exponent(["USD", "JPY"]), exponent([])) == (
        2,
        0,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5_589_384.2, "64 d 16 h"),
        (86_400, "1 d"),
        (90_061, "1 d 1 h"),
        (3_599.9999, "1 h"),
        (61.5, "1 min 1 s"),
        (59.25, "59.25 s"),
        (0.0004, "0 s"),
        (-7_200, "-2 h"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text


@examples(50)
@given(st.floats(60, 1e9))
def test_a_duration_is_true_to_its_smaller_unit(seconds):
    lengths = {"d": 86_400, "h": 3_600, "min": 60, "s": 1}
    words = duration(seconds).split()
    parts = [int(count) * lengths[unit] for count, unit in zip(words[::2], words[1::2], strict=True)]
    smaller = lengths[words[1]] // {"d": 24, "h": 60, "min": 60}[words[1]]
    assert 0 <= seconds + 0.001 - sum(parts) < smaller + 0.002


def test_a_missing_value_is_a_word_in_every_unit():
    assert {
        quantity(value, unit, ["USD"])
        for value in (None, math.nan)
        for unit in ("money", "seconds", "days", "")
    } == {"missing"}
    assert exact(math.nan, "money") == "missing"
    assert exact(454.5, "money") == "454.5 minor units"
    assert (quantity(-3.0, "days"), quantity(2.0, "count"), quantity(1.25, "ratio")) == (
        "-3 days",
        "2",
        "1.25",
    )


def test_units_follow_from_the_declarations():
    customer = Entity("customer", "checkout.applicant.token")
    paid = EventType(
        "paid", [customer], {"amount": Money(), "days_late": Integer(unit="days"), "tries": Integer()}
    )
    refunded = EventType("refunded", [customer], {"amount": Money(), "tries": Integer(unit="days")})
    aggregations = [
        Count(),
        Sum("amount"),
        Mean("days_late"),
        Variance("days_late"),
        LastK(Variance("days_late"), 3),
        LastK(Mean("amount"), 2),
        Sum("tries"),
        TimeSinceLast(),
        Ratio(Sum("amount"), Count()),
    ]
    view = FeatureView("payments", customer, [paid, refunded], aggregations, ["24h"])
    named = [unit for _, unit in view_units(view).items()]
    assert named == ["count", "money", "days", "days²", "days²", "money", "", "seconds", "ratio"]


def test_units_are_in_the_order_of_the_features():
    assert list(units(DEFINITIONS)) == list(DEFINITIONS.features)


def test_units_change_no_hash():
    bare = FeatureView(
        "v", Entity("c"), [EventType("e", [Entity("c")], {"n": Integer()})], [Sum("n")], ["24h"]
    )
    named = FeatureView(
        "v", Entity("c"), [EventType("e", [Entity("c")], {"n": Integer(unit="days")})], [Sum("n")], ["24h"]
    )
    assert bare.version == named.version
