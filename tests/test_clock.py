"""RFC 3339 text and integer milliseconds."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.clock import DAY, Deadline, FixedClock, SystemClock, format_rfc3339, parse_rfc3339

LAST = parse_rfc3339("9999-12-31T23:59:59.999Z")
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.integers(0, LAST))
def test_what_is_written_is_read_back(ms):
    assert parse_rfc3339(format_rfc3339(ms)) == ms


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=offsets))  # noqa: DTZ001 - bounds are naive
def test_offsets_and_microseconds_cut_at_the_millisecond(moment):
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_rfc3339(moment.isoformat(timespec="microseconds")) == exact


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.5z", 500),
        ("1970-01-01T00:00:00.1239999999999Z", 123),
        ("1970-01-02T00:00:00+24:00", None),
        ("1970-01-02T00:00:00-00:30", DAY + 1_800_000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_known_moments(text, ms):
    if ms is None:
        with pytest.raises(ValueError):
            parse_rfc3339(text)
    else:
        assert parse_rfc3339(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1800000000000",
        "2026-11-23",
        "2026-11-23T16:41:07",
        "2026-11-23T16:41Z",
        "2026-11-23 16:41:07Z",
        "2026-11-23T16:41:07 Z",
        "2026-11-23T16:41:07,120Z",
        "2026-11-23T16:41:07.Z",
        "2026-11-23T16:41:07+0000",
        "2026-11-23T16:41:07+00:00:30",
        "20261123T164107Z",
        "2026-W47-1T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T16:41:60Z",
        "2026-11-23T16:41:07Z\n",
        "٢026-11-23T16:41:07Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError):
        parse_rfc3339(text)


def test_a_fixed_clock_stands_still_until_it_is_moved():
    clock = FixedClock(5)
    assert (clock.now_ms(), clock.now_ms()) == (5, 5)
    clock.advance(7)
    assert clock.now_ms() == 12


def test_the_machines_clock_counts_milliseconds_utc():
    assert SystemClock().now_ms() > parse_rfc3339("2026-01-01T00:00:00Z")


def test_a_deadline_that_has_passed_leaves_nothing():
    assert Deadline(-1.0).remaining() == 0.0
    assert 0.0 < Deadline(100.0).remaining() <= 100.0
