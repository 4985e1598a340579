"""Clocks, and RFC 3339 text. Code that needs the time takes a `Clock`; all moments are int milliseconds, UTC."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Python's own parser takes much more of ISO 8601 (weeks, no seconds, no dashes), and more with every release.
_RFC3339 = r"(?a)\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"


class Clock(Protocol):
    """Source of the current time."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class FixedClock:
    """A clock that is moved by hand; for replay, simulation and tests."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, ms: int) -> None:
        """Move the clock by `ms` milliseconds."""
        self._now_ms += ms


def parse_rfc3339(text: str) -> int:
    """RFC 3339 text with an offset → milliseconds UTC; digits beyond the millisecond are cut.

    Raises `ValueError` for anything else, a missing offset included.
    """
    if not re.fullmatch(_RFC3339, text):
        raise ValueError("not a moment of RFC 3339 with an offset or Z")
    moment = datetime.fromisoformat(text.upper())
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since_epoch.days * DAY + since_epoch.seconds * SECOND + since_epoch.microseconds // 1_000


def format_rfc3339(ms: int) -> str:
    """Milliseconds UTC → `2026-11-23T16:41:07.120Z`."""
    day, rest = divmod(ms, DAY)
    second, milli = divmod(rest, SECOND)
    return f"{_date(day)}T{second // 3_600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{milli:03d}Z"


@lru_cache(maxsize=8)
def _date(day: int) -> str:
    """The day since the epoch as YYYY-MM-DD."""
    return datetime.fromtimestamp(day * DAY // SECOND, UTC).isoformat()[:10]


class Deadline:
    """Time budget shared by all calls of a request."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(self._ends - time.monotonic(), 0.0)
