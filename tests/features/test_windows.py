"""Windows against the design's formula, restated in the oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.clock import DAY, MINUTE, SECOND
from candor.errors import DefinitionError
from candor.features.windows import LIFETIME, duration, parse
from simulation.oracle import UNIT_MS, hop_of, left_edge, length_of

labels = st.builds(
    lambda length, unit: f"{length // UNIT_MS[unit]}{unit}",
    st.integers(MINUTE, 731 * DAY),
    st.sampled_from("smhd"),
).filter(lambda label: label[0] != "0" and length_of(label) >= MINUTE)


@given(labels, st.integers(0, 10**13))
def test_edges_follow_the_formula(label, q):
    window = parse(label)
    assert (window.length, window.hop) == (length_of(label), hop_of(length_of(label)))
    assert window.start(q) == left_edge(label, q)


@given(labels, st.integers(0, 10**13))
def test_the_left_edge_reaches_back_by_the_length_and_less_than_a_hop(label, q):
    window = parse(label)
    assert 0 <= q - window.length - window.start(q) < window.hop


@given(labels)
def test_windows_of_four_minutes_and_more_include_at_most_a_24th_too_much(label):
    window = parse(label)
    assert window.length < 4 * MINUTE or window.hop * 24 <= window.length


@pytest.mark.parametrize(
    ("label", "hop"),
    [
        ("1m", "10s"),
        ("4m", "10s"),
        ("24m", "1m"),
        ("6h", "15m"),
        ("24h", "1h"),
        ("6d", "6h"),
        ("7d", "6h"),
        ("30d", "1d"),
        ("167d", "1d"),
        ("168d", "7d"),
        ("671d", "7d"),
        ("672d", "28d"),
        ("731d", "28d"),
    ],
)
def test_hops_of_the_ladder(label, hop):
    assert parse(label).hop == length_of(hop)


def test_lifetime_has_no_left_edge():
    assert parse(LIFETIME).start(10**12) is None


SPELLINGS = [
    "",
    "0d",
    "1w",
    "1.5h",
    "-1d",
    "1D",
    " 1d",
    "1d\n",
    "lifetimes",
    "٣d",
    "07d",
    "d",
    "24",
    "9" * 99 + "d",
]
MISSPELLED = r"is not spelled as a number of s, m, h or d; .* between 1m and 731d"


@pytest.mark.parametrize("label", SPELLINGS, ids=lambda label: label[:10])
def test_other_spellings_are_refused_with_the_remedy(label):
    with pytest.raises(DefinitionError, match=MISSPELLED):
        parse(label)


@pytest.mark.parametrize("label", ["59s", "732d", "1s", "17545h", "1052641m", "63158401s", "99999999999d"])
def test_windows_out_of_range_are_said_to_be(label):
    with pytest.raises(DefinitionError, match=f'window "{label}" is not between 1m and 731d'):
        parse(label)


@pytest.mark.parametrize("label", ["60s", "1000000s", "17544h", "1052640m", "63158400s", "731d"])
def test_windows_in_range_have_any_unit(label):
    assert parse(label).length == length_of(label)


def test_a_duration_is_longer_than_any_window_and_no_lifetime():
    assert duration("900d") == 900 * DAY
    assert duration("10000000s") == 10_000_000 * SECOND
    assert duration("999999d") == duration("86399913600s") == 999_999 * DAY


@pytest.mark.parametrize("label", ["lifetime", "0s", "1w", ""])
def test_other_durations_are_refused_with_the_remedy(label):
    with pytest.raises(
        DefinitionError, match=f'duration "{label}" is not spelled as a number of s, m, h or d'
    ):
        duration(label)


@pytest.mark.parametrize("label", ["1000000d", "86399913601s", "9" * 13 + "d"])
def test_a_duration_whose_milliseconds_could_overflow_is_refused(label):
    with pytest.raises(DefinitionError, match=f'duration "{label}" is longer than 999999d'):
        duration(label)
