"""Event types and entities: the declarations that views are built on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from candor.contracts import MAX_AMOUNT, Application, Event
from candor.errors import DefinitionError, InvalidInput, Report, refuse
from candor.iso_codes import CURRENCIES
from candor.units import MONEY

MAX_SKEW = 300_000
"""Largest skew (ms) of an event ahead of the clock. Events within it of the newest one stay raw in their item, so that
no reader's moment lies before a folded event."""

DECIDED = "checkout.decided"
"""Type of the event that the core emits for each decision."""


class Field(msgspec.Struct, frozen=True):
    """Kind of a data field: integer within bounds, text (one of `of`, if given), or any JSON; `unit` is for people."""

    kind: str
    optional: bool = False
    low: int = -(2**63)
    high: int = 2**63 - 1
    of: frozenset[str] = frozenset()
    unit: str = ""

    def check(self, name: str, value: Any, report: Report = refuse) -> None:
        """Report unless `value` fits."""
        if value is None:
            if not self.optional:
                report(InvalidInput("missing_field", "A required field is missing.", f"data.{name}"))
        elif self.kind == "integer":
            if type(value) is not int:
                report(InvalidInput("invalid_field", "Expected an integer.", f"data.{name}"))
            elif not self.low <= value <= self.high:
                detail = "The integer is outside the declared bounds."
                report(InvalidInput("out_of_range", detail, f"data.{name}"))
        elif self.kind == "text" and (type(value) is not str or len(value) > 256):
            report(InvalidInput("invalid_field", "Expected text of at most 256 characters.", f"data.{name}"))
        elif self.of and value not in self.of:
            report(InvalidInput("invalid_field", "Expected one of the declared texts.", f"data.{name}"))


def Money(*, optional: bool = False) -> Field:  # noqa: N802 - a type name of the declaration language
    """Integer minor units, at most 10¹² either way."""
    return Field("integer", optional, -MAX_AMOUNT, MAX_AMOUNT, unit=MONEY)


def Integer(*, optional: bool = False, unit: str = "") -> Field:  # noqa: N802 - a type name of the declaration language
    """Any integer of at most 10¹⁵ either way; moments are ms UTC. `unit` ("days") is printed with its features."""
    return Field("integer", optional, -(10**15), 10**15, unit=unit)


def Text(*, optional: bool = False, of: Iterable[str] = ()) -> Field:  # noqa: N802 - a type name of the declaration language
    """Text for filters and distinct counts, at most 256 characters; `of` lists the allowed texts."""
    if isinstance(of, str):
        raise DefinitionError(f'Text(of="{of}") would name its letters; write Text(of=["{of}"])')
    return Field("text", optional, of=frozenset(of))


def Json(*, optional: bool = False) -> Field:  # noqa: N802 - a type name of the declaration language
    """Any JSON; carried and archived, never aggregated."""
    return Field("json", optional)


class Entity(msgspec.Struct, frozen=True):
    """Subject of features, such as a customer or a merchant.

    `key` is the dotted path to its token on an Application: `"checkout.applicant.token"`, `"merchant_id"`. An entity
    without a key occurs in events alone: its features are read by token, and cannot serve checkouts. `hot` declares
    so many events per token that the ids of recent ones do not fit in its item.
    """

    name: str
    key: str | None = None
    hot: bool = False

    def __post_init__(self) -> None:
        if self.key is not None:
            _check_key(self.name, self.key)

    def key_of(self, application: Application) -> str | None:
        """The entity's token in this application, or None."""
        if self.key is None:
            return None
        member: Any = application
        for step in self.key.split("."):
            if member is None:
                return None
            member = getattr(member, step)
        return None if member is None else str(member)


def _check_key(name: str, key: str) -> None:
    """Raise `DefinitionError` unless the path names a text member of an Application."""
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
    """The bare type of a member: `str` for `Annotated[str, …] | None`.

    Resolves one annotation: `msgspec.structs.fields` resolves all, which costs a cold start two milliseconds.
    """
    kind = eval(struct.__annotations__[name], vars(sys.modules[struct.__module__]))  # noqa: S307 - an annotation of our own
    while arguments := get_args(kind):
        kind = arguments[0] if get_origin(kind) in (Annotated, UnionType, Union) else get_origin(kind)
    return kind


class EventType(msgspec.Struct, frozen=True, dict=True):
    """Type of event: its entities, of which events name at least one, and data fields. Other fields are unused."""

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

    def check(self, event: Event, report: Report = refuse) -> None:
        """Report unless `event` is a valid event of this type."""
        self.check_entities(event, report)
        self.check_data(event, report)

    def check_entities(self, event: Event, report: Report) -> None:
        """Report unless the event names an entity, by a text."""
        if not any(entity.name in event.entities for entity in self.entities):
            report(
                InvalidInput(
                    "missing_entity", "The event names none of the entities it is about.", "entities"
                )
            )
        for entity in self.entities:
            if type(event.entities.get(entity.name, "")) is not str:
                report(InvalidInput("invalid_field", "Expected text.", f"entities.{entity.name}"))

    def check_data(self, event: Event, report: Report) -> None:
        """Report unless the data are as declared."""
        for name, kind in self.fields.items():
            kind.check(name, event.data.get(name), report)
        currency = event.data.get("currency")
        if currency is not None and (type(currency) is not str or currency not in CURRENCIES):
            report(InvalidInput("unknown_currency", "Use an upper-case ISO 4217 code.", "data.currency"))


def decided_type(entities: Sequence[Entity]) -> EventType:
    """Type of the event emitted for each decision, with the decision's id, and its q as moment.

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
