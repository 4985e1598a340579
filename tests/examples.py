"""Numbers of examples that Hypothesis draws: all in the nightly run, a sample usually, a few in the inner loop."""

import os
from typing import Any

from hypothesis import settings

SHARES = {"deep": 1.0, "fast": 0.1}
SAMPLE = SHARES.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 0.4)
"""Share of the examples that this run draws."""


def examples(number: int, **others: Any) -> settings:
    """Settings for `number` examples, of which a usual run draws a sample."""
    return settings(max_examples=max(2, round(number * SAMPLE)), **others)
