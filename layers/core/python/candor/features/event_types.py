"""What the lender's events say, and of whom: the declarations that every view is made on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from candor.contracts import CURRENCIES, MAX_AMOUNT, Application, Event
from candor.errors import DefinitionError, InvalidInput

MAX_SKEW = 300_000
"""How far ahead (ms) an event may be dated at most. Events younger than this, seen from the newest, stay raw in their
item, so that a reader's moment never falls before what was folded."""

DECIDED = "checkout.decided"
"""The core's own event: what became of a checkout."""


class Field(msgspec.Struct, frozen=True):
    """Kind of one data field of an event: integer bounds, or text (of these, if any are named), or any JSON."""

    kind: str
    optional: bool = False
    low: int = -(2**63)
    high: int = 2**63 - 1
    of: frozenset[str] = frozenset()

    def check(self, name: str, value: Any) -> None:
        """Raise `InvalidInput` unless `value` fits."""
        if value is None:
            if not self.optional:
                raise InvalidInput("missing_field", "A required field is missing.", f"data.{name}")
        elif self.kind == "integer":
            if type(value) is not int:
                raise InvalidInput("invalid_field", "Expected an integer.", f"data.{name}")
            if not self.low <= value <= self.high:
                raise InvalidInput(
                    "out_of_range", "The integer is outside the declared bounds.", f"data.{name}"
                )
        elif self.kind == "text" and (type(value) is not str or len(value) > 256):
            raise InvalidInput("invalid_field", "Expected text of at most 256 characters.", f"data.{name}")
        elif self.of and value not in self.of:
            raise InvalidInput("invalid_field", "Expected one of the declared texts.", f"data.{name}")


def Money(*, optional: bool = False) -> Field:  # noqa: N802 - a type name of the declaration language
    """Integer minor units, at most 10¹² either way."""
    return Field("integer", optional, -MAX_AMOUNT, MAX_AMOUNT)


def Integer(*, optional: bool = False) -> Field:  # noqa: N802 - a type name of the declaration language
    """Any integer of at most 10¹⁵ either way; moments are ms UTC."""
    return Field("integer", optional, -(10**15), 10**15)


def Text(*, optional: bool = False, of: Iterable[str] = ()) -> Field:  # noqa: N802 - a type name of the declaration language
    """Text for filters and distinct counts, at most 256 characters; `of` names all that it may be."""
    if isinstance(of, str):
        raise DefinitionError(f'Text(of="{of}") would name its letters; write Text(of=["{of}"])')
    return Field("text", optional, of=frozenset(of))


def Json(*, optional: bool = False) -> Field:  # noqa: N802 - a type name of the declaration language
    """Any JSON; carried and archived, never aggregated."""
    return Field("json", optional)


class Entity(msgspec.Struct, frozen=True):
    """Who features are about.

    `key` is the dotted path to its token on an Application: `"checkout.applicant.token"`, `"merchant_id"`. An entity without
    one is known from events alone; its features are read by token, and no checkout is served with them.
    `hot` declares that one key sees so many events that the ids of recent ones do not fit in its item.
    """

    name: str
    key: str | None = None
    hot: bool = False

    def __post_init__(self) -> None:
        if self.key is not None:
            _check_key(self.name, self.key)

    def key_of(self, application: Application) -> str | None:
        """The entity's token in this application, or None where it names none."""
        if self.key is None:
            return None
        member: Any = application
        for step in self.key.split("."):
            if member is None:
                return None
            member = getattr(member, step)
        return None if member is None else str(member)


def _check_key(name: str, key: str) -> None:
    """Raise `DefinitionError` unless the path leads to a text of an Application."""
    kind: Any = Application
    for step in key.split("."):
        if step not in getattr(kind, "__struct_fields__", ()):
            raise DefinitionError(
                f'entity "{name}": key="{key}" leads nowhere: {kind.__name__} has no "{step}"; write the path to a token of '
                'an application, such as "checkout.applicant.token", "checkout.device.fingerprint" or "merchant_id"'
            )
        kind = _member(kind, step)
    if kind is not str:
        raise DefinitionError(f'entity "{name}": key="{key}" ends in {kind.__name__}, not in text')


def _member(struct: type[msgspec.Struct], name: str) -> Any:
    """The bare type of a member: of `Annotated[str, …] | None` it is `str`.

    One annotation is resolved: `msgspec.structs.fields` resolves all of them, which costs a cold start two milliseconds.
    """
    kind = eval(struct.__annotations__[name], vars(sys.modules[struct.__module__]))  # noqa: S307 - an annotation of our own
    while arguments := get_args(kind):
        kind = arguments[0] if get_origin(kind) in (Annotated, UnionType, Union) else get_origin(kind)
    return kind


class EventType(msgspec.Struct, frozen=True, dict=True):
    """A kind of event: the entities it must name and its data fields. Unknown fields are carried, not used."""

    name: str
    entities: Sequence[Entity]
    fields: Mapping[str, Field] = {}

    def __post_init__(self) -> None:
        if not self.entities:
            raise DefinitionError(
                f'event type "{self.name}" names no entity: no event of it could be accepted'
            )

    @cached_property
    def plain_fields(self) -> frozenset[str]:
        """Names of the fields that can be aggregated or filtered on."""
        return frozenset(name for name, kind in self.fields.items() if kind.kind != "json")

    def check(self, event: Event) -> None:
        """Raise `InvalidInput` unless `event` is one of these."""
        if not any(entity.name in event.entities for entity in self.entities):
            raise InvalidInput(
                "missing_entity", "The event names none of the entities it is about.", "entities"
            )
        for entity in self.entities:
            if type(event.entities.get(entity.name, "")) is not str:
                raise InvalidInput("invalid_field", "Expected text.", f"entities.{entity.name}")
        for name, kind in self.fields.items():
            kind.check(name, event.data.get(name))
        currency = event.data.get("currency")
        if currency is not None and (type(currency) is not str or currency not in CURRENCIES):
            raise InvalidInput("unknown_currency", "Use an upper-case ISO 4217 code.", "data.currency")


def decided_type(entities: Sequence[Entity]) -> EventType:
    """The event that every decision becomes: its id is the decision's, its moment the decision's q.

    `total` and `approved_amount` (0 unless approved) in minor units of `currency`.
    """
    fields = {
        "checkout_id": Text(),
        "merchant": Text(),
        "total": Money(),
        "approved_amount": Money(),
        "currency": Text(),
        "outcome": Text(),
    }
    return EventType(DECIDED, entities, fields)
