"""Aggregations: one algebra for the online item, the offline engine and the documentation.

``prepare(event)`` extracts the aggregation's input from an event, ``update`` and ``merge`` combine partials in any
order, ``summary`` reduces a partial to exact integer parts and ``value`` finalises them. The offline engine computes
the same parts set-based and calls the same ``value``: equal parts give equal bits.

Partials are JSON-like (ints, lists, None), so an item's codec needs nothing more. The shape of the algebra follows
Chronon's ``BaseAggregator`` (prepare, update, merge, finalize).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, ClassVar

from candor.clock import SECOND
from candor.contracts import Event
from candor.errors import DefinitionError
from candor.features.predicates import Predicate, Spec
from candor.features.windows import Window

Input = tuple[int, str, Any]
"""Input of `update`: (occurred_at ms, event id, prepared value)."""

Inputs = tuple[Sequence[int], Sequence[str], Sequence[Any]]
"""Input of `update_all`: one or more events, column by column."""

Parts = Sequence[int | None]

NAN = math.nan

NUMBER, WIDE, WIDEST = 9, 16, 23
"""Upper bound on the bytes of a stored integer: of 64 bits, of a sum of 2⁴⁰ such, of a sum of as many squares."""

LIST, FEW = 3, 1
"""Upper bound on the header bytes of a stored list; of one with at most 15 members."""

MOST_ID_BYTES = 64
"""Longest event id (UTF-8 bytes): items keep ids, so the bound limits their size."""

STORED_EVENT = FEW + NUMBER + (2 + MOST_ID_BYTES) + NUMBER
"""Upper bound on the bytes of (occurred_at, event id, integer)."""

REGISTRY: dict[str, type[Aggregation]] = {}
"""Aggregations by operation; the property tests cover all of them."""


class Aggregation:
    """Aggregation: a function over the events of a window. ``empty`` is the neutral partial; partials are immutable."""

    op: ClassVar[str]
    part_names: ClassVar[tuple[str, ...]]
    kinds: ClassVar[frozenset[str]] = frozenset({"integer"})
    """Allowed kinds of `field`."""

    empty: Any = None
    invertible: bool = False
    """True if `remove` exactly inverts `update`, whatever was added in between."""

    def __init__(
        self, field: str | None = None, *, where: Predicate | None = None, name: str | None = None
    ) -> None:
        if where is not None and not isinstance(where, Predicate):
            raise DefinitionError(
                f'{self.op}: where= takes a condition on events, as in where=field("amount") > 100'
            )
        self.field = field
        self.where = where
        self.label = name or "_".join(
            word for word in (self.op, field, None if where is None else where.label) if word
        )

    def __init_subclass__(cls) -> None:
        if "op" in cls.__dict__:
            REGISTRY[cls.op] = cls

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the summary parts, in the order that ``value`` expects."""
        return self.part_names

    def spec(self) -> list[Any]:
        """JSON form for hashing; equal specs may share a partial."""
        return [self.op, self.field, self.filter_spec]

    @property
    def filter_spec(self) -> Spec | None:
        """JSON form of the filter; None without one."""
        return None if self.where is None else self.where.spec()

    @property
    def leaves(self) -> tuple[Aggregation, ...]:
        """The aggregations that read events; their parts, concatenated, are this one's parts."""
        return (self,)

    @property
    def taken(self) -> str:
        """Key of everything that ``take`` depends on."""
        return repr(self.field)

    @property
    def source(self) -> str:
        """Key of everything that ``prepare`` depends on; aggregations of one source share the prepared value."""
        return repr([self.taken, self.filter_spec])

    @property
    def fields(self) -> frozenset[str]:
        """Names of the data fields that ``prepare`` reads."""
        own = frozenset({self.field} if self.field else ())
        return own if self.where is None else own | self.where.fields

    def check_window(self, window: Window) -> None:
        """Raise `DefinitionError` if the aggregation is undefined or unbounded over this window."""

    def prepare(self, event: Event) -> Any:
        """The event's contribution, or None if it does not count (filtered out, field missing)."""
        return None if self.where is not None and not self.where.matches(event) else self.take(event)

    def take(self, event: Event) -> Any:
        """Input of an event that passes the filter."""
        return 1 if self.field is None else event.data.get(self.field)

    def update(self, partial: Any, event: Input) -> Any:
        """The partial with one more event."""
        raise NotImplementedError  # abstract: each aggregation answers

    def remove(self, partial: Any, event: Input) -> Any:
        """The partial without an event: the exact inverse of `update`, for invertible aggregations.

        The event may arrive later; until then the partial is negative.
        """
        raise NotImplementedError  # abstract: called for invertible aggregations alone

    def merge(self, left: Any, right: Any) -> Any:
        """Merged partial; associative and commutative."""
        raise NotImplementedError  # abstract: each aggregation answers

    def update_all(self, partial: Any, events: Inputs) -> Any:
        """``update`` with several events."""
        return functools.reduce(self.update, zip(*events, strict=True), partial)

    def merge_all(self, partials: Sequence[Any]) -> Any:
        """``merge`` of one or more partials."""
        return functools.reduce(self.merge, partials)

    def pack(self, partial: Any) -> Any:
        """Partial → storable form (64-bit integers, text, lists, bytes)."""
        return partial

    def unpack(self, stored: Any) -> Any:
        """Inverse of ``pack``."""
        return stored

    def unpack_all(self, stored: Sequence[Any]) -> Sequence[Any]:
        """``unpack`` of each."""
        return [self.unpack(partial) for partial in stored]

    @property
    def most_taken(self) -> int:
        """Upper bound on the stored bytes of a prepared value."""
        return NUMBER

    def most_bytes(self, span: int, texts: Mapping[str, int]) -> int:
        """Upper bound on the stored bytes of a packed partial of `span` ms.

        `texts`: number of distinct texts by field, for fields that declare them.
        """
        return NUMBER

    def summary(self, partial: Any, q: int) -> Parts:
        """Partial → exact integer parts at moment `q` (ms), None where there was no event."""
        raise NotImplementedError  # abstract: each aggregation answers

    def value(self, parts: Parts, q: int) -> float:
        """Parts → the feature at moment ``q`` (ms). The only finaliser, online and offline."""
        raise NotImplementedError  # abstract: each aggregation answers


def narrow(value: int) -> int | bytes:
    """The integer if it fits in 64 bits, else its big-endian bytes (sums of squares)."""
    if -(2**63) <= value < 2**63:
        return value
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def widen(stored: int | bytes) -> int:
    """Inverse of `narrow`."""
    return stored if isinstance(stored, int) else int.from_bytes(stored, "big", signed=True)


class Count(Aggregation):
    """Number of events."""

    op = "count"
    part_names = ("n",)
    empty = 0
    invertible = True

    def __init__(self, *, where: Predicate | None = None, name: str | None = None) -> None:
        super().__init__(None, where=where, name=name)

    def update(self, partial: int, event: Input) -> int:
        return partial + 1

    def remove(self, partial: int, event: Input) -> int:
        return partial - 1

    def update_all(self, partial: int, events: Inputs) -> int:
        return partial + len(events[0])

    def merge(self, left: int, right: int) -> int:
        return left + right

    def merge_all(self, partials: Sequence[int]) -> int:
        return sum(partials)

    def summary(self, partial: int, q: int) -> Parts:
        return (partial,)

    def value(self, parts: Parts, q: int) -> float:
        return float(max(parts[0] or 0, 0))


class Sum(Aggregation):
    """Sum of an integer field; 0 for no events."""

    op = "sum"
    part_names = ("sum",)
    empty = 0
    invertible = True

    def update(self, partial: int, event: Input) -> int:
        return partial + int(event[2])

    def remove(self, partial: int, event: Input) -> int:
        return partial - int(event[2])

    def update_all(self, partial: int, events: Inputs) -> int:
        return sum(events[2], partial)

    def merge(self, left: int, right: int) -> int:
        return left + right

    def merge_all(self, partials: Sequence[int]) -> int:
        return sum(partials)

    def most_bytes(self, span: int, texts: Mapping[str, int]) -> int:
        return WIDE

    def pack(self, partial: int) -> Any:
        return narrow(partial)

    def unpack(self, stored: Any) -> int:
        return widen(stored)

    def unpack_all(self, stored: Sequence[Any]) -> Sequence[Any]:
        return super().unpack_all(stored) if bytes in map(type, stored) else stored

    def summary(self, partial: int, q: int) -> Parts:
        return (partial,)

    def value(self, parts: Parts, q: int) -> float:
        return float(parts[0] or 0)


class Mean(Aggregation):
    """Arithmetic mean of an integer field, correctly rounded once; NaN for no events."""

    op = "mean"
    part_names = ("n", "sum")
    empty = (0, 0)
    invertible = True

    def update(self, partial: Sequence[int], event: Input) -> Sequence[int]:
        return (partial[0] + 1, partial[1] + event[2])

    def remove(self, partial: Sequence[int], event: Input) -> Sequence[int]:
        return (partial[0] - 1, partial[1] - event[2])

    def update_all(self, partial: Sequence[int], events: Inputs) -> Sequence[int]:
        return (partial[0] + len(events[2]), sum(events[2], partial[1]))

    def merge(self, left: Sequence[int], right: Sequence[int]) -> Sequence[int]:
        return (left[0] + right[0], left[1] + right[1])

    def merge_all(self, partials: Sequence[Sequence[int]]) -> Sequence[int]:
        return tuple(map(sum, zip(*partials, strict=True)))

    def most_bytes(self, span: int, texts: Mapping[str, int]) -> int:
        return FEW + NUMBER + WIDE

    def pack(self, partial: Sequence[int]) -> Any:
        return [narrow(part) for part in partial]

    def unpack(self, stored: Any) -> Sequence[int]:
        return [widen(part) for part in stored]

    def unpack_all(self, stored: Sequence[Any]) -> Sequence[Any]:
        return super().unpack_all(stored) if bytes in map(type, chain.from_iterable(stored)) else stored

    def summary(self, partial: Sequence[int], q: int) -> Parts:
        return tuple(partial)

    def value(self, parts: Parts, q: int) -> float:
        n, total = parts
        return (total or 0) / n if n and n > 0 else NAN


class Variance(Aggregation):
    """Population variance of an integer field: (n·Σx² − (Σx)²) / n² in integers, rounded once; NaN for no events."""

    op = "variance"
    part_names = ("n", "sum", "sumsq")
    empty = (0, 0, 0)
    invertible = True

    def update(self, partial: Sequence[int], event: Input) -> Sequence[int]:
        x = event[2]
        return (partial[0] + 1, partial[1] + x, partial[2] + x * x)

    def remove(self, partial: Sequence[int], event: Input) -> Sequence[int]:
        x = event[2]
        return (partial[0] - 1, partial[1] - x, partial[2] - x * x)

    def update_all(self, partial: Sequence[int], events: Inputs) -> Sequence[int]:
        values = events[2]
        squares = sum(map(operator.mul, values, values), partial[2])
        return (partial[0] + len(values), sum(values, partial[1]), squares)

    def merge(self, left: Sequence[int], right: Sequence[int]) -> Sequence[int]:
        return (left[0] + right[0], left[1] + right[1], left[2] + right[2])

    def merge_all(self, partials: Sequence[Sequence[int]]) -> Sequence[int]:
        return tuple(map(sum, zip(*partials, strict=True)))

    def most_bytes(self, span: int, texts: Mapping[str, int]) -> int:
        return FEW + NUMBER + WIDE + WIDEST

    def pack(self, partial: Sequence[int]) -> Any:
        return [narrow(part) for part in partial]

    def unpack(self, stored: Any) -> Sequence[int]:
        return [widen(part) for part in stored]

    def unpack_all(self, stored: Sequence[Any]) -> Sequence[Any]:
        return super().unpack_all(stored) if bytes in map(type, chain.from_iterable(stored)) else stored

    def summary(self, partial: Sequence[int], q: int) -> Parts:
        return tuple(partial)

    def value(self, parts: Parts, q: int) -> float:
        n, total, squares = parts
        return (n * (squares or 0) - (total or 0) ** 2) / (n * n) if n and n > 0 else NAN


class _Extreme(Aggregation):
    """Base of min and max: the partial is the integer or None."""

    choose: ClassVar[Any]

    def update(self, partial: int | None, event: Input) -> Any:
        return event[2] if partial is None else self.choose(partial, event[2])

    def update_all(self, partial: int | None, events: Inputs) -> Any:
        extreme = self.choose(events[2])
        return extreme if partial is None else self.choose(partial, extreme)

    def merge(self, left: int | None, right: int | None) -> Any:
        if left is None or right is None:
            return right if left is None else left
        return self.choose(left, right)

    def merge_all(self, partials: Sequence[int | None]) -> Any:
        present = [partial for partial in partials if partial is not None]
        return self.choose(present) if present else None

    def summary(self, partial: int | None, q: int) -> Parts:
        return (partial,)

    def value(self, parts: Parts, q: int) -> float:
        return NAN if parts[0] is None else float(parts[0])


class Min(_Extreme):
    """Smallest value of an integer field; NaN for no events."""

    op = "min"
    part_names = ("min",)
    choose = staticmethod(min)


class Max(_Extreme):
    """Largest value of an integer field; NaN for no events."""

    op = "max"
    part_names = ("max",)
    choose = staticmethod(max)


class _Edge(Aggregation):
    """Base of first and last: the partial is (occurred_at, event id, value) or None.

    Ties of occurred_at break by event id in code point order, as UTF-8 bytes and SQL engines order text.
    """

    takes_later: ClassVar[bool]

    def update(self, partial: Sequence[Any] | None, event: Input) -> Sequence[Any]:
        return self._pick(partial, event)

    def merge(self, left: Sequence[Any] | None, right: Sequence[Any] | None) -> Sequence[Any] | None:
        return left if right is None else self._pick(left, right)

    def update_all(self, partial: Sequence[Any] | None, events: Inputs) -> Any:
        # Event ids are unique, so values are never compared.
        return self._pick(partial, (max if self.takes_later else min)(zip(*events, strict=True)))

    def merge_all(self, partials: Sequence[Sequence[Any] | None]) -> Any:
        present = [partial for partial in partials if partial is not None]
        return (max if self.takes_later else min)(present, key=moment) if present else None

    def most_bytes(self, span: int, texts: Mapping[str, int]) -> int:
        return STORED_EVENT

    def _pick(self, current: Sequence[Any] | None, other: Sequence[Any]) -> Sequence[Any]:
        if current is None:
            return other
        return other if (moment(other) > moment(current)) is self.takes_later else current

    def summary(self, partial: Sequence[Any] | None, q: int) -> Parts:
        return (None if partial is None else partial[2],)

    def value(self, parts: Parts, q: int) -> float:
        return NAN if parts[0] is None else float(parts[0])


moment: Callable[[Sequence[Any]], tuple[int, str]] = itemgetter(0, 1)
"""Sort key of events: moment, then id."""


class First(_Edge):
    """Value of the earliest event; NaN for no events."""

    op = "first"
    part_names = ("first",)
    takes_later = False


class Last(_Edge):
    """Value of the latest event; NaN for no events."""

    op = "last"
    part_names = ("last",)
    takes_later = True


class LastCategory(Last):
    """Latest value of a text field as its index in `categories`; −1 for any other text, NaN for no events."""

    op = "last_category"
    part_names = ("last_category",)
    kinds = frozenset({"text"})

    def __init__(
        self,
        field: str,
        categories: Sequence[str],
        *,
        where: Predicate | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(field, where=where, name=name)
        if isinstance(categories, str):
            raise DefinitionError(f'last_category of "{field}" takes a list of categories: ["{categories}"]')
        self.categories = list(categories)
        self.codes = {category: code for code, category in enumerate(self.categories)}
        if not self.codes or len(self.codes) != len(self.categories):
            raise DefinitionError(f'last_category of "{field}" needs categories, each once')

    def spec(self) -> list[Any]:
        return [*super().spec(), self.categories]

    @property
    def taken(self) -> str:
        return repr([self.field, self.categories])

    def take(self, event: Event) -> Any:
        text = super().take(event)
        return None if text is None else self.codes.get(text, -1)


class TimeSinceLast(Aggregation):
    """Seconds from the latest event to the moment of the decision; NaN for no events."""

    op = "time_since_last"
    part_names = ("last_at",)

    def __init__(self, *, where: Predicate | None = None, name: str | None = None) -> None:
        super().__init__(None, where=where, name=name)

    def update(self, partial: int | None, event: Input) -> int:
        return event[0] if partial is None else max(partial, event[0])

    def update_all(self, partial: int | None, events: Inputs) -> int | None:
        latest = max(events[0])
        return latest if partial is None else max(partial, latest)

    def merge(self, left: int | None, right: int | None) -> int | None:
        if left is None or right is None:
            return right if left is None else left
        return max(left, right)

    def merge_all(self, partials: Sequence[int | None]) -> int | None:
        return max([partial for partial in partials if partial is not None], default=None)

    def summary(self, partial: int | None, q: int) -> Parts:
        return (partial,)

    def value(self, parts: Parts, q: int) -> float:
        return NAN if parts[0] is None else (q - parts[0]) / SECOND
