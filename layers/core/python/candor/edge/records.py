"""Read access to stored decisions: the merchant's own answer, and the whole record for the lender."""

from __future__ import annotations

import math
import re
from typing import Any, Protocol

import msgspec

from candor.decision import Decision, parse_record
from candor.edge.rest import Request
from candor.errors import DefinitionError, InvalidInput, StoreUnavailable
from candor.features.definitions import Definitions
from candor.store.protocol import StoredDecision

_ID = re.compile(r"dec_[a-z2-7]{26}", re.ASCII)


class Decisions(Protocol):
    """Store of decisions."""

    def get(self, decision_id: str) -> StoredDecision | None:
        """The stored decision, or None. Raises `StoreUnavailable`."""
        ...


class _Mode(msgspec.Struct):
    livemode: bool


def own_answer(request: Request, decisions: Decisions) -> bytes:
    """The stored answer, byte for byte, by the id in the path.

    Raises `InvalidInput`; the error for another merchant's decision, or of the other mode, equals that for an unknown
    id.
    """
    merchant_id = request.authorizer.get("merchant_id")
    if not merchant_id:
        raise InvalidInput("unauthorized", "No merchant belongs to this key.")
    stored = _stored(request, decisions)
    mode = "true" if msgspec.json.decode(stored.answer, type=_Mode).livemode else "false"
    if stored.merchant_id != merchant_id or request.authorizer.get("livemode") != mode:
        raise _unknown()
    return stored.answer


def whole_record(request: Request, decisions: Decisions, definitions: Definitions) -> bytes:
    """The whole stored decision, by the id in the path: answer and record as stored, features by name.

    Raises `InvalidInput`.
    """
    stored = _stored(request, decisions)
    try:
        features = _features_by_name(parse_record(stored.record), definitions)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError) as error:
        raise StoreUnavailable("the stored record is of another shape") from error
    return msgspec.json.encode(
        {
            "id": stored.id,
            "object": "decision_record",
            "features": features,
            "answer": msgspec.Raw(stored.answer),
            "record": msgspec.Raw(stored.record),
        }
    )


def _stored(request: Request, decisions: Decisions) -> StoredDecision:
    decision_id = request.parameter("id")
    stored = decisions.get(decision_id) if _ID.fullmatch(decision_id) else None
    if stored is None:
        raise _unknown()
    return stored


def _unknown() -> InvalidInput:
    return InvalidInput("decision_not_found", "No decision that you may see has this id.", "id")


def _features_by_name(decision: Decision, definitions: Definitions) -> dict[str, Any] | None:
    named = (key.partition("#")[0].partition("@") for key in decision.vector.versions)
    try:
        made_with = definitions.serving({name: version for name, _, version in named})
    except DefinitionError:
        return None
    if made_with.hash != decision.definition_hash:
        return None
    values = (None if math.isnan(value) else value for value in decision.vector.values)
    return dict(zip(made_with.features, values, strict=True))
