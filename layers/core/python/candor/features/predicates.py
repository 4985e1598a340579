"""Filters on events as data, so that one definition runs online, compiles to SQL and has a hash."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import msgspec

from candor.contracts import Event

Spec = list[Any]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"==": "is", "!=": "not", "<": "below", "<=": "at_most", ">": "above", ">=": "at_least"}


class Predicate:
    """A condition on one event. Combine two with `&`."""

    @property
    def label(self) -> str:
        """Snake-case words for feature names."""
        raise NotImplementedError  # abstract: each kind below answers

    def spec(self) -> Spec:
        """JSON form: what is hashed and what the offline engine compiles."""
        raise NotImplementedError  # abstract: each kind below answers

    @property
    def fields(self) -> frozenset[str]:
        """Names of the data fields that it looks at."""
        return frozenset()

    def matches(self, event: Event) -> bool:
        """True if the event passes. A missing field never matches."""
        raise NotImplementedError  # abstract: each kind below answers

    def __and__(self, other: Predicate) -> Predicate:
        return And(self, other)


class TypeIs(Predicate, msgspec.Struct, frozen=True, eq=False):
    """The event's type is one of `types`."""

    types: tuple[str, ...]

    @property
    def label(self) -> str:
        return "_or_".join(name.replace(".", "_") for name in self.types)

    def spec(self) -> Spec:
        return ["type", list(self.types)]

    def matches(self, event: Event) -> bool:
        return event.type in self.types


class Compare(Predicate, msgspec.Struct, frozen=True, eq=False):
    """`event.data[field] <op> value`; int with int, text with text, anything else never matches."""

    field: str
    op: str
    value: int | str

    @property
    def label(self) -> str:
        return f"{self.field}_{_WORDS[self.op]}_{self.value}".replace("-", "minus_").replace(".", "_")

    def spec(self) -> Spec:
        return ["cmp", self.field, self.op, self.value]

    @property
    def fields(self) -> frozenset[str]:
        return frozenset({self.field})

    def matches(self, event: Event) -> bool:
        found = event.data.get(self.field)
        return type(found) is type(self.value) and _COMPARE[self.op](found, self.value)


class And(Predicate, msgspec.Struct, frozen=True, eq=False):
    """Both hold."""

    left: Predicate
    right: Predicate

    @property
    def label(self) -> str:
        return f"{self.left.label}_{self.right.label}"

    def spec(self) -> Spec:
        return ["and", self.left.spec(), self.right.spec()]

    @property
    def fields(self) -> frozenset[str]:
        return self.left.fields | self.right.fields

    def matches(self, event: Event) -> bool:
        return self.left.matches(event) and self.right.matches(event)


class field:  # noqa: N801 - reads as a word of the declaration language: field("amount") > 0
    """Names a data field; comparing it gives a predicate: `field("days_late") > 3`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, value: object) -> Predicate:  # type: ignore[override] # a predicate, not a bool
        return self._compare("==", value)

    def __ne__(self, value: object) -> Predicate:  # type: ignore[override] # a predicate, not a bool
        return self._compare("!=", value)

    def __lt__(self, value: int) -> Predicate:
        return self._compare("<", value)

    def __le__(self, value: int) -> Predicate:
        return self._compare("<=", value)

    def __gt__(self, value: int) -> Predicate:
        return self._compare(">", value)

    def __ge__(self, value: int) -> Predicate:
        return self._compare(">=", value)

    __hash__ = None  # type: ignore[assignment] # equality builds a predicate

    def _compare(self, op: str, value: object) -> Predicate:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError(f"field({self.name!r}) compares with int or str, not {type(value).__name__}")
        return Compare(self.name, op, value)


def type_is(*types: str) -> Predicate:
    """The event is of one of these types: `type_is("payment.failed")`."""
    if not types:
        raise TypeError("type_is needs at least one event type")
    return TypeIs(types)
