"""Filters on events as data: evaluated online, compiled to SQL, and hashed."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from candor.contracts import Event
from candor.errors import DefinitionError

Spec = list[Any]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_REMEDY = (
    "combine conditions with &, | and ~, and put each comparison in parentheses: "
    '(field("amount") > 100) | (field("method") == "card")'
)
_WORDS = {"==": "is", "!=": "not", "<": "below", "<=": "at_most", ">": "above", ">=": "at_least"}


class Predicate:
    """A condition on one event. Combine conditions with `&`, `|` and `~`, each comparison in parentheses.

    Logic is two-valued. A comparison with a missing field does not match, and `~` matches exactly where its condition
    does not: `~(field("amount") > 100)` matches an event without an amount, which `field("amount") <= 100` does not.

    `and`, `or`, `not` and chained comparisons raise `DefinitionError`: Python would drop one side of them.
    """

    @property
    def label(self) -> str:
        """Label for feature names, in snake case."""
        raise NotImplementedError  # abstract: each kind below answers

    def spec(self) -> Spec:
        """JSON form, for hashing and for the offline engine."""
        raise NotImplementedError  # abstract: each kind below answers

    @property
    def leaves(self) -> tuple[Predicate, ...]:
        """The condition's comparisons and type filters."""
        return (self,)

    @property
    def fields(self) -> frozenset[str]:
        """Names of the data fields that it reads."""
        return frozenset(leaf.field for leaf in self.leaves if isinstance(leaf, Compare))

    def matches(self, event: Event) -> bool:
        """True if the event passes."""
        raise NotImplementedError  # abstract: each kind below answers

    def __and__(self, other: Predicate) -> Predicate:
        return And(self, _condition(other))

    def __or__(self, other: Predicate) -> Predicate:
        return Or(self, _condition(other))

    def __invert__(self) -> Predicate:
        return Not(self)

    def __bool__(self) -> bool:
        raise DefinitionError(f"a condition on events has no truth value in Python: {_REMEDY}")

    def _after(self, other: object) -> Predicate:
        return _condition(other)

    __rand__ = __ror__ = _after


def _condition(value: object) -> Predicate:
    if isinstance(value, Predicate):
        return value
    raise DefinitionError(f"{type(value).__name__} is no condition on events: {_REMEDY}")


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

    def matches(self, event: Event) -> bool:
        member = event.data.get(self.field)
        return type(member) is type(self.value) and _COMPARE[self.op](member, self.value)


class _Pair(Predicate, msgspec.Struct, frozen=True, eq=False):
    """Two conditions."""

    left: Predicate
    right: Predicate

    @property
    def leaves(self) -> tuple[Predicate, ...]:
        return (*self.left.leaves, *self.right.leaves)


class And(_Pair, frozen=True, eq=False):
    """Both match."""

    @property
    def label(self) -> str:
        return f"{self.left.label}_{self.right.label}"

    def spec(self) -> Spec:
        return ["and", self.left.spec(), self.right.spec()]

    def matches(self, event: Event) -> bool:
        return self.left.matches(event) and self.right.matches(event)


class Or(_Pair, frozen=True, eq=False):
    """At least one matches."""

    @property
    def label(self) -> str:
        return f"{self.left.label}_or_{self.right.label}"

    def spec(self) -> Spec:
        return ["or", self.left.spec(), self.right.spec()]

    def matches(self, event: Event) -> bool:
        return self.left.matches(event) or self.right.matches(event)


class Not(Predicate, msgspec.Struct, frozen=True, eq=False):
    """The condition does not match; true for a comparison whose field is missing."""

    of: Predicate

    @property
    def label(self) -> str:
        return f"not_{self.of.label}"

    def spec(self) -> Spec:
        return ["not", self.of.spec()]

    @property
    def leaves(self) -> tuple[Predicate, ...]:
        return self.of.leaves

    def matches(self, event: Event) -> bool:
        return not self.of.matches(event)


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
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise TypeError(f"field({self.name!r}) compares with integers of at most 64 bits")
        return Compare(self.name, op, value)

    def _alone(self, _other: object = None) -> NoReturn:
        raise DefinitionError(f'field("{self.name}") alone is no condition: compare it, and {_REMEDY}')

    __and__ = __rand__ = __or__ = __ror__ = __invert__ = __bool__ = _alone


def type_is(*types: str) -> Predicate:
    """The event is of one of these types: `type_is("payment.failed")`."""
    if not types:
        raise TypeError("type_is needs at least one event type")
    if not all(isinstance(name, str) for name in types):
        raise TypeError('type_is takes names of event types: type_is("payment.failed", "payment.reversed")')
    return TypeIs(types)
