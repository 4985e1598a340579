"""Distinct counts (`Distinct`): exact up to a limit, beyond it from registers without a set of values per range.

The number of registers a range fills with rank r or more is a distinct count of registers over the events of such
ranks, half as many with every r. These counts give the zeros and the estimator's sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from candor.features.distinct import Distinct
from candor.features.views import FeatureView
from candor.features.windows import Window
from history.asof.events import field_column, kinds
from history.asof.finalize import Column, Families, Family, Finished
from history.asof.ranges import Groups, Ints, Range, running
from history.asof.selection import Part, ViewWindows, source_key
from history.asof.stream import EventStream

REGISTERS = 1024


def distinct(windows: ViewWindows, leaf: Distinct, window: Window) -> list[Part]:
    """Number of distinct values; beyond the exact limit zeros and harmonic sum of the registers."""
    ranges = windows.within(leaf, window)
    selection = windows.selected(leaf)
    field = windows.once(
        ("field codes", leaf.field), lambda: field_codes(windows.stream, windows.view, str(leaf.field))
    )
    values = selection.of(field.codes)
    entities = selection.of(windows.stream.entity)
    key = ("groups", *source_key(leaf))
    n = windows.once(key, lambda: Groups(entities * len(field.texts) + values)).distinct(ranges)
    beyond = n > leaf.exact
    zeros, harmonic = np.zeros(len(n), np.int64), np.zeros(len(n), object)
    if beyond.any():
        digests = field.registers(values)
        large = [(starts[beyond], ends[beyond]) for starts, ends in ranges]
        zeros[beyond], harmonic[beyond] = register_sums(entities, digests, large)
    return [(n, ~beyond), (zeros, beyond), (harmonic, beyond)]


def exact_count(column: Column) -> Finished:
    """The number where it is exact."""
    return column.parts[0][0].astype(np.float64), column.parts[0][1]


@dataclass(frozen=True)
class FieldCodes:
    """Distinct values of a field, as text with their kind, and each event's value number; −1 for none."""

    texts: Sequence[str]
    codes: Ints

    def registers(self, codes: Ints) -> Ints:
        """Register and rank of these values as one integer; only values that occur are hashed."""
        digests = np.zeros(len(self.texts), np.int64)
        for code in np.unique(codes).tolist():
            digests[code] = _register(self.texts[code])
        return digests[codes]


def field_codes(stream: EventStream, view: FeatureView, field: str) -> FieldCodes:
    """Return the values of a field; an integer never equals a text."""
    codes = np.full(len(stream.order), -1, np.int64)
    texts: list[str] = []
    for kind in kinds(view, field):
        column = stream.column(field_column(field, kind))
        values = column.drop_nulls().unique().sort()
        numbers = column.to_frame("value").join(
            values.to_frame("value").with_row_index("code"), on="value", how="left", maintain_order="left"
        )["code"]
        some = numbers.is_not_null().to_numpy()
        codes[some] = numbers.drop_nulls().to_numpy().astype(np.int64) + len(texts)
        texts += [f"{'int' if kind == 'integer' else 'str'}:{value}" for value in values.to_list()]
    return FieldCodes(texts, codes)


def _register(text: str) -> int:
    """Register (low 10 bits of the digest) and rank (position of the first 1 in the other 54) as one integer."""
    bits = f"{int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), 'big'):064b}"
    return int(bits[-10:], 2) * 64 + (bits[:-10] + "1").index("1") + 1


def register_sums(entities: Ints, digests: Ints, ranges: Sequence[Range]) -> tuple[Ints, npt.NDArray[Any]]:
    """Number of registers at zero, and the sum of 2^(55 − rank) over the others, of events in one or two ranges."""
    groups, ranks = entities * REGISTERS + digests // 64, digests % 64
    filled = Groups(groups).distinct(ranges)
    zeros = REGISTERS - filled
    harmonic = np.zeros(len(filled), object)
    rank = 1
    while len(ranks):
        keep = ranks > rank
        position = running(keep.astype(np.int64))
        groups, ranks = groups[keep], ranks[keep]
        ranges = [(position[starts], position[ends]) for starts, ends in ranges]
        higher = Groups(groups).distinct(ranges)
        harmonic += (filled - higher).astype(object) << (55 - rank)
        filled, rank = higher, rank + 1
    return zeros, harmonic


FAMILIES: Final[Families] = {
    Distinct: Family(distinct, exact_count, wide=True),
}
