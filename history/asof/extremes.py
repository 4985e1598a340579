"""Extremes: runs of powers of two."""

from __future__ import annotations

from typing import Final

import numpy as np

from candor.features.aggregations import Max, Min
from candor.features.windows import Window
from history.asof.finalize import Families, Family, number
from history.asof.ranges import Ints, extremes, sizes
from history.asof.selection import Part, ViewWindows, source_key


def extreme(windows: ViewWindows, leaf: Min | Max, window: Window) -> list[Part]:
    """Smallest or largest value. All windows of the view are computed together: they share the runs."""
    every = list({feature.window.label: feature.window for feature in windows.view.features}.values())
    choose = np.minimum if isinstance(leaf, Min) else np.maximum

    def answer() -> dict[str, Ints]:
        ranges = [windows.within(leaf, each) for each in every]
        values = windows.selected(leaf).of(windows.values(leaf))
        parts = extremes(values, ranges, choose)
        return {each.label: part for each, part in zip(every, parts, strict=True)}

    some = sizes(windows.within(leaf, window)) > 0
    return [(windows.once((leaf.op, *source_key(leaf)), answer)[window.label], some)]


FAMILIES: Final[Families] = {
    Min: Family(extreme, number),
    Max: Family(extreme, number),
}
