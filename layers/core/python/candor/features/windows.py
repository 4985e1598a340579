"""Half-open sawtooth windows: `[⌊(q−W)/h⌋·h, q)` with hop `h` from a fixed ladder.

The hop is the largest ladder step not above W/24, so a window of four minutes or more over-includes at
most 1/24 = 4.2 % of its length on the left; shorter windows use the 10-second floor. The right edge is exact.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from candor.clock import DAY, HOUR, MINUTE, SECOND
from candor.errors import DefinitionError

LADDER = (28 * DAY, 7 * DAY, DAY, 6 * HOUR, HOUR, 15 * MINUTE, MINUTE, 10 * SECOND)
"""Steps that divide each other, so that the left edge of a window falls on the edges of all finer tiles."""

LIFETIME = "lifetime"
LONGEST = 731 * DAY
LONGEST_DURATION = 999_999 * DAY

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_SPELLING = re.compile(r"([1-9][0-9]{0,15})([smhd])")


class Window(msgspec.Struct, frozen=True):
    """One window. `length` and `hop` are milliseconds; both are None for the lifetime window."""

    label: str
    length: int | None
    hop: int | None

    def start(self, q: int) -> int | None:
        """First moment inside the window at `q` (ms); None when there is no left edge."""
        if self.length is None or self.hop is None:
            return None
        return (q - self.length) // self.hop * self.hop


def hop(length: int) -> int:
    """Largest ladder step not above `length`/24, at least 10 seconds; all ms."""
    return next((step for step in LADDER if step * 24 <= length), LADDER[-1])


@lru_cache(maxsize=256)
def parse(label: str) -> Window:
    """`"10m"`, `"24h"`, `"90d"` or `"lifetime"` → Window. Bounds: 1 minute to 731 days."""
    if label == LIFETIME:
        return Window(LIFETIME, None, None)
    length = _milliseconds(label)
    if length is None:
        raise DefinitionError(
            f'window "{label}" is not spelled as a number of s, m, h or d; write e.g. "10m", "24h", "90d" or "lifetime", '
            "between 1m and 731d"
        )
    if not MINUTE <= length <= LONGEST:
        raise DefinitionError(
            f'window "{label}" is not between 1m and 731d; declare such a length, or "lifetime"'
        )
    return Window(label, length, hop(length))


def duration(label: str) -> int:
    """`"3d"` → milliseconds; at most 999,999 days."""
    length = _milliseconds(label)
    if length is None:
        raise DefinitionError(
            f'duration "{label}" is not spelled as a number of s, m, h or d; write e.g. "15m", "24h" or "3d"'
        )
    if length > LONGEST_DURATION:
        raise DefinitionError(f'duration "{label}" is longer than 999999d')
    return length


def _milliseconds(label: str) -> int | None:
    """None for what is no positive number of seconds, minutes, hours or days."""
    spelling = _SPELLING.fullmatch(label)
    return int(spelling[1]) * _UNITS[spelling[2]] if spelling else None
