"""Parses and validates a merchant's request for a decision."""

from __future__ import annotations

from candor.clock import DAY, parse_rfc3339
from candor.contracts import Application, parse_checkout
from candor.decide import Attempt
from candor.edge.rest import Request, check_version
from candor.errors import InvalidInput

MAX_KEY_LENGTH = 255
REPLAY_HEADER = "Candor-Replay-At"
LAST_MOMENT = 253_402_300_799_000 - DAY
"""ms UTC, a day before the end of 9999: expiry moments after it can still be written as RFC 3339."""


def attempt_of(request: Request, *, replay_allowed: bool) -> Attempt:
    """Headers and body → Attempt. The merchant is the authoriser's, never the body's.

    Raises `InvalidInput`.
    """
    merchant_id = request.authorizer.get("merchant_id")
    if not merchant_id:
        raise InvalidInput("unauthorized", "No merchant belongs to this key.")
    check_version(request)
    key = _idempotency_key(request)
    replay_at = _replay_moment(request, replay_allowed=replay_allowed)
    livemode = request.authorizer.get("livemode") == "true"
    return Attempt(Application(parse_checkout(request.body()), merchant_id, livemode), key, replay_at)


def _idempotency_key(request: Request) -> str:
    key = request.header("Idempotency-Key")
    if key is None or not key.strip():
        raise InvalidInput("missing_idempotency_key", "Send an Idempotency-Key header.", "Idempotency-Key")
    if len(key) > MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise InvalidInput(
            "invalid_idempotency_key", "Use at most 255 printable ASCII characters.", "Idempotency-Key"
        )
    return key


def _replay_moment(request: Request, *, replay_allowed: bool) -> int | None:
    text = request.header(REPLAY_HEADER)
    if text is None:
        return None
    if not replay_allowed:
        raise InvalidInput("replay_clock_refused", "This stage decides at its own clock only.", REPLAY_HEADER)
    try:
        moment = parse_rfc3339(text)
    except ValueError:
        raise InvalidInput("invalid_replay_moment", "Use RFC 3339 with an offset.", REPLAY_HEADER) from None
    if not 0 <= moment <= LAST_MOMENT:
        raise InvalidInput("invalid_replay_moment", "Use a moment from 1970 to 9999.", REPLAY_HEADER)
    return moment
