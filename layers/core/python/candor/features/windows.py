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
"""Steps that divide each other, so that a window's left edge falls on the edges of all finer tiles."""

LIFETIME = "lifetime"
LONGEST = 731 * DAY
LONGEST_DURATION = 999_999 * DAY

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_SPELLING = re.compile(r"([1-9][0-9]{0,15})([smhd])")


class Window(msgspec.Struct, frozen=True):
    """Half-open span of time relative to the moment of the read; all figures are ms.

    `length` is None for the lifetime window, which has no left edge. `hop` is None if no edge moves on a grid. `delay`
    is the lag of the right edge.
    """

    label: str
    length: int | None
    hop: int | None
    delay: int = 0

    def start(self, q: int) -> int | None:
        """First moment inside the window at `q` (ms); None without a left edge."""
        if self.length is None or self.hop is None:
            return None
        return (q - self.delay - self.length) // self.hop * self.hop

    def end(self, q: int) -> int:
        """First moment after the window at `q` (ms): `q` itself, or the delayed edge on the hop."""
        return (q - self.delay) // self.hop * self.hop if self.delay and self.hop else q

    @property
    def reach(self) -> int:
        """Largest distance (ms) of an edge on the grid from `q`."""
        return (self.length or 0) + self.delay + (self.hop or 0)


class Delayed(msgspec.Struct, frozen=True):
    """Declaration of a window whose right edge lags by `delay`: `Delayed("30d", delay="7d")`.

    For data that is known late, such as labels or settlements. At `q` it covers `[⌊(q−D−W)/h⌋·h, ⌊(q−D)/h⌋·h)`, with
    the hop of its length; for `lifetime`, of its delay.
    """

    window: str
    delay: str


def hop(length: int) -> int:
    """Largest ladder step not above `length`/24, at least 10 seconds; all ms."""
    return next((step for step in LADDER if step * 24 <= length), LADDER[-1])


Spelling = str | Delayed
"""Declaration of a window."""


def declared(spelling: Spelling, *, exact: bool = False) -> Window:
    """The window of a declaration; `exact` windows move by the millisecond. Raises `DefinitionError`."""
    window = parse(spelling if isinstance(spelling, str) else spelling.window)
    if exact:
        if window.length is None or not isinstance(spelling, str):
            raise DefinitionError(
                "a view of exact windows takes no lifetime and no delayed window; declare it in another view"
            )
        return Window(window.label, window.length, 1)
    return window if isinstance(spelling, str) else _delayed(window, spelling.delay)


def _delayed(window: Window, label: str) -> Window:
    delay = duration(label)
    if not MINUTE <= delay <= LONGEST or (window.length or 0) + delay > LONGEST:
        raise DefinitionError(
            f'window "{window.label}" delayed by "{label}": the delay is at least 1m, and both together at most 731d'
        )
    return Window(f"{window.label}_delayed_{label}", window.length, window.hop or hop(delay), delay)


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
    """Milliseconds of a number of seconds, minutes, hours or days; None for any other text."""
    spelling = _SPELLING.fullmatch(label)
    return int(spelling[1]) * _UNITS[spelling[2]] if spelling else None
