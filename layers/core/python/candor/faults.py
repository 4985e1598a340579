"""All faults of a JSON body that its contract refuses.

The contracts stop at the first fault, which is all that a valid request pays for. Only a refused body is read again,
here, member by member with the same decoders, so that one answer names everything that has to be corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

import msgspec

from candor.contracts import MOST_FAULTS, refusal_of
from candor.errors import InvalidInput, Report

Rule = Callable[[Any, Report], None]
"""Check across the members of a body."""

Decoder = msgspec.json.Decoder[Any]

_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class FaultyMember(Exception):
    """A rule read a member that is faulty itself."""


class _EnoughFaults(Exception):
    """`MOST_FAULTS` are reported."""


class ValidMembers:
    """The valid members of a body, as attributes. Any other raises `FaultyMember`."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.__dict__.update(members)

    def __getattr__(self, name: str) -> Any:
        raise FaultyMember(name)


def refused(
    kind: type[msgspec.Struct], body: bytes, first: InvalidInput, rules: Iterable[Rule]
) -> InvalidInput:
    """The fault `first` of a body, with all its faults: those of the members, in the body's order, then of `rules`.

    A rule that depends on a faulty member is left out: its finding would be a guess.
    """
    return with_faults(first, all_faults(kind, body, rules))


def all_faults(kind: type[msgspec.Struct], body: bytes, rules: Iterable[Rule]) -> list[InvalidInput]:
    """The body's faults, at most `MOST_FAULTS`; empty for a body that cannot be read to its end."""
    faults: list[InvalidInput] = []

    def report(fault: InvalidInput) -> None:
        faults.append(fault)
        if len(faults) == MOST_FAULTS:
            raise _EnoughFaults

    try:
        members = _members(kind, body, "", report)
        _apply(rules, members, report)
    except _EnoughFaults:
        return faults
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return faults


def _apply(rules: Iterable[Rule], members: ValidMembers, report: Report) -> None:
    for rule in rules:
        try:
            rule(members, report)
        except FaultyMember:
            continue


def with_faults(first: InvalidInput, faults: Iterable[InvalidInput]) -> InvalidInput:
    """`first` with all faults, itself in front and each member's code once; at most `MOST_FAULTS`."""
    distinct = {(fault.code, fault.field): fault for fault in (first, *faults)}
    return InvalidInput(first.code, first.detail, first.field, list(distinct.values())[:MOST_FAULTS])


class _Member(NamedTuple):
    """A declared member: its decoder, its default, and the Struct that it holds, alone or in a list."""

    decoder: Decoder
    required: bool
    default: Any
    struct: type[msgspec.Struct] | None
    listed: Decoder | None
    nullable: bool


@cache
def _declared(kind: type[msgspec.Struct]) -> dict[str, _Member]:
    return {field.encode_name: _member(field) for field in msgspec.structs.fields(kind)}


def _member(field: msgspec.structs.FieldInfo) -> _Member:
    bare, limits = _bare(field.type)
    nullable = type(None) in get_args(bare)
    inner = next((part for part in get_args(bare) if part is not type(None)), bare) if nullable else bare
    struct, listed = inner, None
    if get_origin(inner) is list:
        (struct,) = get_args(inner)
        listed = msgspec.json.Decoder(Annotated[list[msgspec.Raw], *limits])
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        struct, listed = None, None
    decoder: Decoder = msgspec.json.Decoder(field.type)
    return _Member(decoder, field.required, field.default, struct, listed, nullable)


def _bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without `Annotated`, and the limits in it."""
    if get_origin(annotation) is Annotated:
        bare, *limits = get_args(annotation)
        return bare, tuple(limits)
    return annotation, ()


def _members(kind: type[msgspec.Struct], raw: bytes, path: str, report: Report) -> ValidMembers:
    """The object's valid members, none if it is no object; raises msgspec.DecodeError for bytes that are not JSON."""
    try:
        present = _OBJECT.decode(raw)
    except msgspec.ValidationError as error:
        report(_at(path, refusal_of(error)))
        return ValidMembers({})
    declared, members = _declared(kind), dict[str, Any]()
    for name, member_raw in present.items():
        if name in declared:
            value = _value(declared[name], bytes(member_raw), f"{path}.{name}".lstrip("."), report)
            if value is not FaultyMember:
                members[name] = value
        else:
            report(_at(path, _unknown(name)))
    for name, member in declared.items():
        if name not in present and member.required:
            report(_at(path, _missing(name)))
        elif name not in present:
            members[name] = member.default
    return ValidMembers(members)


def _value(member: _Member, raw: bytes, path: str, report: Report) -> Any:
    """The member's value, `FaultyMember` for one that is faulty as a whole."""
    if member.struct is None or (member.nullable and raw == b"null"):
        return _decoded(member.decoder, raw, path, report)
    if member.listed is None:
        return _members(member.struct, raw, path, report)
    elements = _decoded(member.listed, raw, path, report)
    if elements is FaultyMember:
        return FaultyMember
    return [
        _members(member.struct, bytes(element), f"{path}[{place}]", report)
        for place, element in enumerate(elements)
    ]


def _decoded(decoder: Decoder, raw: bytes, path: str, report: Report) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        report(_at(path, refusal_of(error)))
        return FaultyMember


def _unknown(name: str) -> InvalidInput:
    return refusal_of(msgspec.ValidationError(f"Object contains unknown field `{name}`"))


def _missing(name: str) -> InvalidInput:
    return refusal_of(msgspec.ValidationError(f"Object missing required field `{name}`"))


def _at(path: str, fault: InvalidInput) -> InvalidInput:
    """The fault with its path below `path`."""
    below = fault.field or ""
    dot = "." if path and below and not below.startswith("[") else ""
    return InvalidInput(fault.code, fault.detail, f"{path}{dot}{below}" or None)
