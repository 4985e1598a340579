"""Parses and validates a merchant's request for a decision, as a stage takes them in."""

from __future__ import annotations

from typing import NamedTuple

from candor.acceptance import Acceptance
from candor.clock import DAY, Clock, parse_rfc3339
from candor.contracts import CHECKOUT_RULES, Application, Checkout, check_not_after, parse_checkout
from candor.decide import Attempt
from candor.edge.rest import Request, check_media_type, check_version
from candor.errors import InvalidInput, Report

MAX_KEY_LENGTH = 255
REPLAY_HEADER = "Candor-Replay-At"
LAST_MOMENT = 253_402_300_799_000 - DAY
"""ms UTC, a day before the end of 9999: expiry moments after it can still be written as RFC 3339."""


class Intake(NamedTuple):
    """A stage's conditions for a request: the lender's acceptance, the clock and its skew, the replay clock."""

    acceptance: Acceptance
    max_skew_ms: int
    clock: Clock
    replay_allowed: bool

    def attempt_of(self, request: Request) -> Attempt:
        """Headers and body → Attempt. The merchant is the authoriser's, never the body's.

        Raises `InvalidInput`, for a body with all its faults.
        """
        merchant_id = request.authorizer.get("merchant_id")
        if not merchant_id:
            raise InvalidInput("unauthorized", "No merchant belongs to this key.")
        check_version(request)
        check_media_type(request)
        key = _idempotency_key(request)
        replay_at = _replay_moment(request, replay_allowed=self.replay_allowed)
        livemode = request.authorizer.get("livemode") == "true"
        return Attempt(
            Application(self._checkout(request.body(), replay_at), merchant_id, livemode), key, replay_at
        )

    def _checkout(self, body: bytes, replay_at: int | None) -> Checkout:
        try:
            checkout = parse_checkout(body)
            self.acceptance.check(checkout)
        except InvalidInput as first:
            raise self._refused(body, first, replay_at) from None
        return checkout

    def _refused(self, body: bytes, first: InvalidInput, replay_at: int | None) -> InvalidInput:
        """The first fault with all others, those that only the decider would see included."""
        from candor.faults import FaultyMember, refused  # off the cold start: valid bodies never need it

        latest = (self.clock.now_ms() if replay_at is None else replay_at) + self.max_skew_ms

        def not_in_future(checkout: Checkout, report: Report) -> None:
            try:
                check_not_after(checkout, latest, report)
            except ValueError:
                raise FaultyMember("occurred_at") from None

        return refused(Checkout, body, first, (*CHECKOUT_RULES, *self.acceptance.rules, not_in_future))


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
