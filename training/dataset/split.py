"""Split of a training set by time, and the least number of goods and bads to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_OF_EACH: Final = 10


class CannotLearn(Exception):
    """The data set or the settings cannot give a model; the message says what is wrong."""


@dataclass(frozen=True)
class Split:
    """Row numbers: `early` to fit on, `late` to validate and calibrate on; `at` is the moment between them (ms UTC)."""

    early: NDArray[np.int64]
    late: NDArray[np.int64]
    at: int


def split_by_time(q: NDArray[np.int64], known_at: NDArray[np.int64], late_share: float) -> Split:
    """Split off the latest `late_share` of the checkouts; `early` are those made, and labelled, before them."""
    return split_at(q, known_at, int(np.sort(q)[int(len(q) * (1.0 - late_share))]))


def split_at(q: NDArray[np.int64], known_at: NDArray[np.int64], at: int) -> Split:
    """Split at a given moment (ms UTC), otherwise as `split_by_time`."""
    return Split(np.flatnonzero((q < at) & (known_at < at)), np.flatnonzero(q >= at), at)


def require_both(bad: NDArray[np.int8], what: str) -> None:
    """Raise CannotLearn unless there are at least `MIN_OF_EACH` bads and goods."""
    bads = int(bad.sum())
    if min(bads, len(bad) - bads) < MIN_OF_EACH:
        raise CannotLearn(
            f"{what}: {bads} bad of {len(bad)} checkouts; at least {MIN_OF_EACH} bads and goods are needed: "
            "load more history"
        )
