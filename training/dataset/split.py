"""Rows of a training set split by time, and the fewest goods and bads that anything is learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_OF_EACH: Final = 10


class CannotLearn(Exception):
    """The data set does not carry a model; the message says what is missing."""


@dataclass(frozen=True)
class Split:
    """Row numbers: `early` to fit on, `late` to validate and calibrate on, and the moment between them (ms)."""

    early: NDArray[np.int64]
    late: NDArray[np.int64]
    at: int


def split_by_time(q: NDArray[np.int64], known_at: NDArray[np.int64], late_share: float) -> Split:
    """The latest `late_share` of the checkouts against those that came, and whose end was known, before them."""
    return split_at(q, known_at, int(np.sort(q)[int(len(q) * (1.0 - late_share))]))


def split_at(q: NDArray[np.int64], known_at: NDArray[np.int64], at: int) -> Split:
    """As `split_by_time`, at a given moment (ms)."""
    return Split(np.flatnonzero((q < at) & (known_at < at)), np.flatnonzero(q >= at), at)


def require_both(bad: NDArray[np.int8], what: str) -> None:
    """CannotLearn unless there are a few bads and a few goods."""
    bads = int(bad.sum())
    if min(bads, len(bad) - bads) < MIN_OF_EACH:
        raise CannotLearn(
            f"{what}: {bads} bad of {len(bad)} checkouts; at least {MIN_OF_EACH} bads and goods are needed: load more history"
        )
