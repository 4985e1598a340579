"""Rules that erase a person from archive lines.

A line that only the person needs is removed. A line that another entity's features count is kept without everything
no feature can depend on: the person's entity, JSON fields, undeclared data. Where the token is a value that may be
counted (the applicants of a device), a pseudonym replaces it, so distinct counts stay the same.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from candor.clock import parse_rfc3339
from candor.contracts import Application, parse_event
from candor.decision import parse_record
from candor.errors import InvalidInput
from candor.features.definitions import Definitions
from candor.features.event_types import Field
from candor.store.protocol import marker_key
from history.archive.decisions import DecisionLine

SHARD_DIGITS: Final = 3


@dataclass(frozen=True)
class Person:
    """An entity by kind and token. Its repr omits the token."""

    kind: str
    token: str

    def __repr__(self) -> str:
        return f"Person({self.kind})"

    def may_stand_in(self, line: bytes) -> bool:
        """False if the token certainly is not in the line; JSON may also spell it with escapes."""
        return self.token.encode() in line or b"\\" in line

    def stands_in(self, value: Any) -> bool:
        """True if the token is a text, or a member's name, anywhere in a JSON value."""
        match value:
            case str():
                return value == self.token
            case dict():
                return any(self.stands_in(part) for member in value.items() for part in member)
            case list():
                return any(map(self.stands_in, value))
        return False

    def owns(self, key: str, definitions: Definitions) -> bool:
        """True if an item key, of any version of a view, is this entity's.

        The entity kind of an undeclared view is unknown: there the token decides.
        """
        view, _, rest = key.partition("#")
        entities = {kept.entity for kept in definitions.kept if kept.name == view.partition("@")[0]}
        if entities and self.kind not in {entity.name for entity in entities}:
            return False
        token, _, shard = rest.rpartition("/")
        sharded = not entities or any(entity.hot for entity in entities)
        return rest == self.token or (
            sharded and token == self.token and shard.isdigit() and len(shard) < SHARD_DIGITS
        )


Rule = Callable[[bytes], bytes | None]
"""A line → its remainder: the same bytes object if it is not the person's, None if nothing remains."""


class EventLines:
    """Rule for envelopes of events from before `before` (ms).

    Lines that no reader accepts are removed whole. Collects ids of the person's events and checkouts, of events
    `later` than that, and of kept events whose own id contains the token: these cannot change, because other items'
    logs name them.
    """

    def __init__(self, person: Person, definitions: Definitions, stand_in: str, before: int) -> None:
        self._person, self._definitions = person, definitions
        self._stand_in, self._before = stand_in, before
        self.event_ids: set[str] = set()
        self.checkouts: set[str] = set()
        self.later: set[str] = set()
        self.in_ids: set[str] = set()

    def __call__(self, line: bytes) -> bytes | None:
        if not self._person.may_stand_in(line):
            return line
        archived = _object(line)
        envelope = _envelope(archived)
        detail: Any = envelope.get("detail")
        if not self._accepted(envelope):
            # No reader accepts such a line; without JSON only a text search shows whose it is.
            theirs = self._person.stands_in(archived) or (
                not archived and self._person.token.encode() in line
            )
            return None if theirs else line
        named = detail["entities"].get(self._person.kind)
        if named != self._person.token and not self._person.stands_in(detail["data"]):
            return line
        if parse_rfc3339(detail["occurred_at"]) >= self._before:
            self.later.add(detail["event_id"])
            return line
        left = self._left(detail)
        if left is not None and self._person.token in detail["event_id"]:
            self.in_ids.add(detail["event_id"])
        return None if left is None else _line(_with_detail(archived, left), line)

    def _accepted(self, envelope: Mapping[str, Any]) -> bool:
        try:
            detail = json.dumps(envelope.get("detail")).encode()
            event = parse_event(detail, str(envelope.get("source", "")))
            kind = self._definitions.event_types.get(event.type)
            if kind is None:
                return False
            kind.check(event)
        except InvalidInput:
            return False
        return True

    def _left(self, detail: Mapping[str, Any]) -> dict[str, Any] | None:
        named = detail["entities"].get(self._person.kind)
        if named not in (None, self._person.token):
            # An event of another entity that mentions the person.
            return {**detail, "data": self._without_token(detail["data"])}
        self._remember(detail, by_name=named is not None)
        kind = self._definitions.event_types[detail["type"]]
        others = {
            name: token
            for name, token in detail["entities"].items()
            if name != self._person.kind and name in self._definitions.entities
        }
        if not any(entity.name in others for entity in kind.entities):
            return None
        data = {name: self._value(kind.fields.get(name), value) for name, value in detail["data"].items()}
        return {
            **detail,
            "entities": others,
            "data": {name: value for name, value in data.items() if value is not None},
        }

    def _remember(self, detail: Mapping[str, Any], *, by_name: bool) -> None:
        if by_name:
            self.event_ids.add(detail["event_id"])
        checkout = detail["data"].get("checkout_id")
        if isinstance(checkout, str):
            self.checkouts.add(checkout)

    def _value(self, declared: Field | None, value: Any) -> Any:
        """Return the part of a data member that a feature may depend on; None if there is none."""
        if declared is None:
            return None
        if declared.kind == "json":
            return None if declared.optional or value is None else {}
        return value.replace(self._person.token, self._stand_in) if isinstance(value, str) else value

    def _without_token(self, value: Any) -> Any:
        match value:
            case str():
                return self._stand_in if value == self._person.token else value
            case dict():
                return {self._without_token(name): self._without_token(part) for name, part in value.items()}
            case list():
                return [self._without_token(part) for part in value]
        return value


class CommitLines:
    """Rule for the commit log: lines of the person's items are removed.

    `living`: births of items written after an earlier erasure, whose log is needed. Collects the keys removed,
    because items of undeclared views, and markers, are listed nowhere else.
    """

    def __init__(self, person: Person, definitions: Definitions, living: Mapping[str, int]) -> None:
        self._person, self._definitions, self._living = person, definitions, living
        self.keys: set[str] = set()
        self.markers: set[str] = set()

    def __call__(self, line: bytes) -> bytes | None:
        if not self._person.may_stand_in(line):
            return line
        commit = _object(line)
        key = commit.get("key")
        if not isinstance(key, str) or not self._person.owns(key, self._definitions):
            return line
        if key in self._living and commit.get("birth") == self._living[key]:
            return line
        self.keys.add(key)
        self.markers.update(marker_key(key, str(event_id)) for event_id in commit.get("event_ids", ()))
        return None


class UndeliveredLines:
    """Rule for undeliverable stream records, which Firehose wraps as base64.

    No feature counts them, so they are removed.
    """

    def __init__(self, person: Person, definitions: Definitions) -> None:
        self._person, self._definitions = person, definitions

    def __call__(self, line: bytes) -> bytes | None:
        wrapped = _object(line)
        inner = [wrapped, *map(_object, _raw(wrapped).split(b"\n"))]
        theirs = any(
            self._person.stands_in(part) or self._person.owns(str(part.get("key", "")), self._definitions)
            for part in inner
        )
        unreadable = not wrapped and self._person.token.encode() in line
        return None if theirs or unreadable else line


class DecisionLines:
    """Collects ids and moments (ms) of the person's decisions and keeps every line, as the law requires."""

    def __init__(self, person: Person, definitions: Definitions) -> None:
        self._person, self._entity = person, definitions.entities[person.kind]
        self.ids: set[str] = set()
        self.q: set[int] = set()

    def __call__(self, line: bytes) -> bytes:
        if self._person.may_stand_in(line) and line.strip():
            record = msgspec.json.decode(line, type=DecisionLine)
            decision = parse_record(bytes(record.record))
            application = Application(decision.request, decision.merchant_id, decision.livemode)
            if self._entity.key_of(application) == self._person.token:
                self.ids.add(record.id)
                self.q.add(record.q)
        return line


def _envelope(archived: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the bus's envelope; newer lines hold it beside its ingestion time."""
    event = archived.get("event")
    return event if isinstance(event, dict) else archived


def _with_detail(archived: Mapping[str, Any], detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line with another detail in its envelope."""
    envelope = _envelope(archived)
    changed = {**envelope, "detail": detail}
    return changed if envelope is archived else {**archived, "event": changed}


def _object(line: bytes) -> dict[str, Any]:
    """Return the JSON object of a line; an empty one if it is not JSON."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {"": value}


def _raw(wrapped: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(wrapped.get("rawData", "")), validate=True)
    except binascii.Error:
        return b""


def _line(value: Any, like: bytes) -> bytes:
    end = b"\n" if like.endswith(b"\n") else b""
    return json.dumps(value, separators=(",", ":")).encode() + end
