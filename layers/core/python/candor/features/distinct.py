"""Distinct counts: exact up to a declared number, HyperLogLog beyond.

A partial's form depends on the set of values alone: it turns into registers when the set outgrows `exact`, in any
order of updates and merges. 1,024 registers give a standard error of 1.04/√1024 = 3.25 %. The estimate is the
improved raw estimator of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), without
tables of biases; it uses sums and products of floats alone, so its bits are equal on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache, reduce
from typing import Any

from candor.contracts import Event
from candor.errors import DefinitionError
from candor.features.aggregations import LIST, NUMBER, Aggregation, Input, Inputs, Parts
from candor.features.predicates import Predicate

PRECISION = 10
REGISTERS = 1 << PRECISION
RANKS = 64 - PRECISION + 1
"""Highest rank: the position of the first 1 among the 54 bits that do not choose the register, 55 if there is none."""

MOST_EXACT = 1_024
_ALPHA = 0.7213475204444817
"""1 / (2 ln 2)."""


class Distinct(Aggregation):
    """Number of distinct values of a text or integer field, kept as 64-bit BLAKE2b digests.

    Exact up to `exact` values, beyond that a whole number with a standard error of 3.25 %. `exact` is at most 1,024,
    and less for windows of many tiles, each of which may hold `exact` digests (table in docs/features.md).
    """

    op = "distinct"
    kinds = frozenset({"integer", "text"})
    part_names = ("n_distinct", "zeros", "harmonic")
    empty = ()

    def __init__(
        self, field: str, *, exact: int = 128, where: Predicate | None = None, name: str | None = None
    ) -> None:
        if not 1 <= exact <= MOST_EXACT:
            raise DefinitionError(f"distinct is exact to between 1 and {MOST_EXACT} values, not {exact}")
        super().__init__(field, where=where, name=name)
        self.exact = exact

    def spec(self) -> list[Any]:
        return [*super().spec(), self.exact]

    @property
    def taken(self) -> str:
        return "digest of " + super().taken

    def take(self, event: Event) -> Any:
        value = event.data.get(self.field or "")
        return None if value is None else _digest(value)

    def update(self, partial: Sequence[int], event: Input) -> Sequence[int]:
        if isinstance(partial, bytes):
            return _observe(partial, (event[2],))
        return partial if event[2] in partial else self._settle({*partial, event[2]})

    def update_all(self, partial: Sequence[int], events: Inputs) -> Sequence[int]:
        return self.merge(partial, events[2])

    def merge(self, left: Sequence[int], right: Sequence[int]) -> Sequence[int]:
        if isinstance(left, bytes) and isinstance(right, bytes):
            return bytes(map(max, left, right))
        if isinstance(left, bytes):
            return _observe(left, right)
        if isinstance(right, bytes):
            return _observe(right, left)
        return self._settle({*left, *right})

    def merge_all(self, partials: Sequence[Sequence[int]]) -> Sequence[int]:
        if bytes in map(type, partials):
            return reduce(self.merge, partials)
        return self._settle(set[int]().union(*partials))

    def _settle(self, digests: Collection[int]) -> Sequence[int]:
        return sorted(digests) if len(digests) <= self.exact else _observe(bytes(REGISTERS), digests)

    def most_bytes(self, span: int, texts: Mapping[str, int]) -> int:
        different = texts.get(str(self.field), REGISTERS)
        exactly = LIST + min(different, self.exact) * NUMBER
        return exactly if different <= self.exact else max(exactly, LIST + REGISTERS)

    def summary(self, partial: Sequence[int], q: int) -> Parts:
        if not isinstance(partial, bytes):
            return len(partial), None, None
        harmonic = sum(partial.count(rank) << (RANKS - rank) for rank in range(1, RANKS + 1))
        return None, partial.count(0), harmonic

    def value(self, parts: Parts, q: int) -> float:
        n, zeros, harmonic = parts
        if harmonic is None:
            return float(n or 0)
        return float(max(round(_estimate(zeros or 0, harmonic)), self.exact + 1))


@lru_cache(maxsize=4_096, typed=True)
def _digest(value: Any) -> int:
    """64-bit digest of a value, cached: few merchants, categories and devices recur."""
    digest = hashlib.blake2b(f"{type(value).__name__}:{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _observe(registers: bytes, digests: Collection[int]) -> bytes:
    changed = bytearray(registers)
    for digest in digests:
        bits = digest % (1 << 64)
        place, rank = bits % REGISTERS, RANKS - (bits >> PRECISION).bit_length()
        changed[place] = max(changed[place], rank)
    return bytes(changed)


def _estimate(zeros: int, harmonic: int) -> float:
    """From the number of registers at 0, and the sum of 2^(55 − rank) over the others."""
    empty = zeros / REGISTERS
    power, sigma, before = 1.0, empty, -1.0
    while sigma != before:
        before = sigma
        empty *= empty
        sigma += empty * power
        power += power
    return _ALPHA * REGISTERS * REGISTERS / (harmonic / (1 << RANKS) + REGISTERS * sigma)
