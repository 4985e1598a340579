"""Confidence intervals of shares."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from scipy import stats

LEVEL: Final = 0.95


class ConfidenceInterval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float

    def beyond(self, expected: float) -> float:
        """Distance of the interval from the expected value; 0 if it contains it."""
        return max(self.low - expected, expected - self.high, 0.0)


def rate_interval(part: int, whole: int, level: float = LEVEL) -> ConfidenceInterval:
    """Confidence interval of a share: E. B. Wilson, Probable inference, 1927."""
    if not whole:
        return ConfidenceInterval(0.0, 1.0)
    z = float(stats.norm.ppf((1.0 + level) / 2.0))
    share, weight = part / whole, z * z / whole
    middle = (share + weight / 2.0) / (1.0 + weight)
    width = z * math.sqrt(share * (1.0 - share) / whole + weight / (4.0 * whole)) / (1.0 + weight)
    return ConfidenceInterval(max(middle - width, 0.0), min(middle + width, 1.0))
