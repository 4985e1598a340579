"""Numbers of examples that Hypothesis draws: all of them in the nightly run, a sample with every other run."""

import os
from typing import Any

from hypothesis import settings

SAMPLE = 0.4
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


def examples(number: int, **others: Any) -> settings:
    """Settings for `number` examples, of which a usual run draws a sample."""
    return settings(max_examples=number if DEEP else max(10, round(number * SAMPLE)), **others)
