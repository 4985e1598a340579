"""Composed aggregations: over the latest k values or events, and ratios of two aggregations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from candor.contracts import Event
from candor.errors import DefinitionError
from candor.features.aggregations import (
    FEW,
    LIST,
    NAN,
    STORED_EVENT,
    Aggregation,
    Input,
    Max,
    Mean,
    Min,
    Parts,
    Sum,
    Variance,
    moment,
)

MOST_KEPT = 16
"""Largest `k` of `LastK`: it keeps as many events in each tile."""

NO_VALUE = False
"""Prepared value of an event that counts but lacks the field; None is that of an event that does not count."""


class LastK(Aggregation):
    """A sum, mean, variance, minimum or maximum of the latest `k` values of a field: `LastK(Mean("days_late"), 3)`.

    `over="values"` takes the latest `k` events that pass the filter and have the field; `over="events"` the latest
    `k` that pass the filter, where those without the field add nothing. Of amounts 100, 20, missing and 3,
    `LastK(Sum("amount"), 2)` is 23, and 3 with `over="events"`. Fewer than `k` events are all taken. Ties break by
    event id, as for `Last`.
    """

    op = "last_k"
    empty = ()

    def __init__(
        self,
        of: Aggregation,
        k: int,
        *,
        over: Literal["values", "events"] = "values",
        name: str | None = None,
    ) -> None:
        if type(of) not in {Sum, Mean, Variance, Min, Max}:
            raise DefinitionError(f"last_k is of a sum, mean, variance, min or max, not of {of.op}")
        if not 1 <= k <= MOST_KEPT:
            raise DefinitionError(f"last_k keeps 1 to {MOST_KEPT} values or events, not {k}")
        if over not in ("values", "events"):
            raise DefinitionError('last_k is over="values" or over="events"')
        self.of, self.k, self.over = of, k, over
        label = "_".join([of.label, "of_last", str(k), *self._named])
        super().__init__(of.field, where=of.where, name=name or label)

    @property
    def _named(self) -> list[str]:
        """Suffix of `over="events"`; `over="values"` has none, since its names and hashes are older."""
        return ["events"] if self.over == "events" else []

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(f"last_{place}" for place in range(1, self.k + 1))

    def spec(self) -> list[Any]:
        return [*super().spec(), self.of.op, self.k, *self._named]

    @property
    def taken(self) -> str:
        return repr([super().taken, *self._named]) if self._named else super().taken

    def take(self, event: Event) -> Any:
        value = super().take(event)
        return NO_VALUE if value is None and self.over == "events" else value

    def update(self, partial: Sequence[Any], event: Input) -> Sequence[Any]:
        if len(partial) == self.k and moment(event) < moment(partial[-1]):
            return partial
        return self.merge(partial, (event,))

    def merge(self, left: Sequence[Any], right: Sequence[Any]) -> Sequence[Any]:
        return sorted([*left, *right], key=moment, reverse=True)[: self.k]

    def most_bytes(self, span: int, texts: Mapping[str, int]) -> int:
        return LIST + self.k * STORED_EVENT

    def summary(self, partial: Sequence[Any], q: int) -> Parts:
        values = (None if event[2] is NO_VALUE else event[2] for event in partial)
        return [*values, *[None] * (self.k - len(partial))]

    def value(self, parts: Parts, q: int) -> float:
        partial = self.of.empty
        for value in parts:
            if value is not None:
                partial = self.of.update(partial, (0, "", value))
        return self.of.value(self.of.summary(partial, q), q)


class Ratio(Aggregation):
    """One aggregation divided by another over the same window; NaN where the second is 0 or either is NaN.

    `Ratio(Count(where=type_is("payment.failed")), Count())` is the share of failed payments.
    """

    op = "ratio"

    def __init__(self, of: Aggregation, to: Aggregation, *, name: str | None = None) -> None:
        super().__init__(name=name or f"{of.label}_per_{to.label}")
        self.of = of
        self.to = to
        self.empty = (of.empty, to.empty)
        self.invertible = of.invertible and to.invertible

    @property
    def leaves(self) -> tuple[Aggregation, ...]:
        return (*self.of.leaves, *self.to.leaves)

    @property
    def parts(self) -> tuple[str, ...]:
        return (*self.of.parts, *self.to.parts)

    @property
    def taken(self) -> str:
        return repr([self.op, self.of.source, self.to.source])

    @property
    def fields(self) -> frozenset[str]:
        return self.of.fields | self.to.fields

    def spec(self) -> list[Any]:
        return [self.op, self.of.spec(), self.to.spec()]

    def take(self, event: Event) -> Any:
        pair = [self.of.prepare(event), self.to.prepare(event)]
        return None if pair == [None, None] else pair

    def update(self, partial: Sequence[Any], event: Input) -> Sequence[Any]:
        at, event_id, (dividend, divisor) = event
        return (
            partial[0] if dividend is None else self.of.update(partial[0], (at, event_id, dividend)),
            partial[1] if divisor is None else self.to.update(partial[1], (at, event_id, divisor)),
        )

    def remove(self, partial: Sequence[Any], event: Input) -> Sequence[Any]:
        at, event_id, (dividend, divisor) = event
        return (
            partial[0] if dividend is None else self.of.remove(partial[0], (at, event_id, dividend)),
            partial[1] if divisor is None else self.to.remove(partial[1], (at, event_id, divisor)),
        )

    def merge(self, left: Sequence[Any], right: Sequence[Any]) -> Sequence[Any]:
        return self.of.merge(left[0], right[0]), self.to.merge(left[1], right[1])

    @property
    def most_taken(self) -> int:
        return FEW + self.of.most_taken + self.to.most_taken

    def most_bytes(self, span: int, texts: Mapping[str, int]) -> int:
        return FEW + self.of.most_bytes(span, texts) + self.to.most_bytes(span, texts)

    def pack(self, partial: Sequence[Any]) -> Any:
        return [self.of.pack(partial[0]), self.to.pack(partial[1])]

    def unpack(self, stored: Any) -> Sequence[Any]:
        return self.of.unpack(stored[0]), self.to.unpack(stored[1])

    def summary(self, partial: Sequence[Any], q: int) -> Parts:
        return (*self.of.summary(partial[0], q), *self.to.summary(partial[1], q))

    def value(self, parts: Parts, q: int) -> float:
        cut = len(self.of.parts)
        below = self.to.value(parts[cut:], q)
        return self.of.value(parts[:cut], q) / below if below else NAN
