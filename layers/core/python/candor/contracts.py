"""Contracts of the API and of the bus: checkouts, events, problems.

Parsing is strict: integers are integers, unknown fields are refused, money is integer minor units.
Invalid input raises `InvalidInput`, whose text never repeats the offending value.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar

import msgspec

from candor.clock import format_rfc3339, parse_rfc3339
from candor.errors import InvalidInput, Report, refuse
from candor.iso_codes import CURRENCIES

MAX_AMOUNT = 10**12
"""Bound of every amount, in minor units; sums of it stay exact in 128 bits."""

MAX_BODY_BYTES = 64 * 1024
SCHEMA_VERSION = 1
VOID = "~void"
"""Suffix of a void's deduplication id, after the id of its event."""

PLATFORM = "candor.platform"
HISTORY = "candor.history"
"""EventBridge sources of the platform's own decisions, and of backfilled history."""

Token = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
Text = Annotated[str, msgspec.Meta(max_length=256)]

# A pattern's $ also matches before a final newline; max_length closes that gap below.
Country = Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$", max_length=2)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", max_length=64)]


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the basket; `unit_price` in minor units."""

    sku: Token
    unit_price: Amount
    qty: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    category: Text | None = None


class Applicant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The applicant for credit, by tokens only."""

    token: Token
    email_sha256: Sha256 | None = None
    shipping_matches_billing: bool | None = None


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The requested product: `installments` payments, `period_days` apart; `finance_charge` in minor units."""

    product: Token
    installments: Annotated[int, msgspec.Meta(ge=1, le=60)]
    period_days: Annotated[int, msgspec.Meta(ge=1, le=366)]
    finance_charge: Amount = 0


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The device, as the checkout page sees it."""

    fingerprint: Token | None = None
    ip_prefix: Text | None = None
    session_age_s: Annotated[int, msgspec.Meta(ge=0, le=10**9)] | None = None


class Checkout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/decisions`. All money is integer minor units of `currency`."""

    checkout_id: Token
    merchant_order_id: Token
    country: Country
    currency: str
    total: Annotated[int, msgspec.Meta(ge=1, le=MAX_AMOUNT)]
    items: Annotated[list[Item], msgspec.Meta(min_length=1, max_length=500)]
    applicant: Applicant
    offer: Offer
    tax_amount: Amount = 0
    shipping_amount: Amount = 0
    discount_amount: Amount = 0
    device: Device | None = None
    occurred_at: str | None = None


class Application(msgspec.Struct, frozen=True):
    """A checkout with the merchant, and the mode (live or test), of the API key that sent it."""

    checkout: Checkout
    merchant_id: str
    livemode: bool = False


class Event(msgspec.Struct, frozen=True):
    """Something that happened at the lender, at `occurred_at` (ms UTC).

    `entities`: tokens by entity name. `data`: by field name, as the event's type declares it; money in whole minor
    units.

    With `voided_at` it is a void: the event of this id, repeated here in full, was voided at that moment (ms UTC).
    `known_at` is the recorded knowledge time (ms UTC), if any; online features ignore it.
    """

    id: str
    type: str
    occurred_at: int
    entities: dict[str, str]
    data: dict[str, Any]
    voided_at: int | None = None
    known_at: int | None = None

    @property
    def moment(self) -> int:
        """Event time (ms UTC): `voided_at` of a void, else `occurred_at`."""
        return self.occurred_at if self.voided_at is None else self.voided_at

    @property
    def known_from(self) -> int:
        """Knowledge time (ms UTC): the later of `moment` and `known_at`."""
        return self.moment if self.known_at is None else max(self.moment, self.known_at)

    @property
    def dedup_id(self) -> str:
        """Deduplication id: an event and its void count once each."""
        return self.id if self.voided_at is None else self.id + VOID

    def void(self, at: int) -> Event:
        """The void of this event at `at` (ms UTC), which is not before the event occurred."""
        return msgspec.structs.replace(self, voided_at=at, known_at=None)


class EventBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wire format of an event."""

    event_id: Token
    type: Token
    occurred_at: str
    entities: dict[Token, Token]
    data: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    voided_at: str | None = None


class HistoryBody(EventBody, frozen=True, forbid_unknown_fields=True):
    """Wire format of a backfilled event, which may carry its knowledge time."""

    known_at: str | None = None


class Envelope(msgspec.Struct, frozen=True):
    """EventBridge's envelope of an event, as far as it is read here."""

    detail: msgspec.Raw
    source: str = ""


class Fault(msgspec.Struct, frozen=True):
    """One fault of a refused body; `field` is the JSON path of the faulty member, or null."""

    code: str
    field: str | None
    detail: str


MOST_FAULTS = 100
"""Faults that a problem lists at most."""


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457 problem details with the members merchants act on.

    `errors`: all faults of a refused body, of which the members beside it are the first.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None
    request_id: str
    errors: Annotated[list[Fault], msgspec.Meta(min_length=1, max_length=MOST_FAULTS)] | msgspec.UnsetType = (
        msgspec.UNSET
    )


T = TypeVar("T")
_PATH = r"(?s)^(?P<what>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>.*)`)?$"
_MISSING = r"Object missing required field `(?P<name>.*)`"
_UNKNOWN = r"(?s)Object contains unknown field `(?P<name>.*)`"
_SPEAKABLE = r"[A-Za-z][A-Za-z_]{0,63}"
"""Names of unknown fields that may be repeated in an error: plain words, since a name may hold personal data."""
_CHECKOUT = msgspec.json.Decoder(Checkout)
_EVENT = msgspec.json.Decoder(EventBody)
_HISTORY = msgspec.json.Decoder(HistoryBody)
_ENVELOPE = msgspec.json.Decoder(Envelope)


def parse_checkout(body: bytes) -> Checkout:
    """The request's bytes → Checkout, or `InvalidInput` that names the first faulty field."""
    checkout = _decode(_CHECKOUT, body)
    _in_a_known_currency(checkout, refuse)
    _adds_up(checkout, refuse)
    if checkout.occurred_at is not None:
        _dated(checkout, refuse)
    return checkout


def _in_a_known_currency(checkout: Checkout, report: Report) -> None:
    if checkout.currency not in CURRENCIES:
        report(InvalidInput("unknown_currency", "Use an upper-case ISO 4217 code.", "currency"))


def _adds_up(checkout: Checkout, report: Report) -> None:
    goods = sum([item.unit_price * item.qty for item in checkout.items])
    expected = goods + checkout.tax_amount + checkout.shipping_amount - checkout.discount_amount
    if checkout.total != expected:
        detail = "total must equal the items plus tax and shipping less discount."
        report(InvalidInput("total_mismatch", detail, "total"))


def _dated(body: Checkout | EventBody, report: Report) -> None:
    if body.occurred_at is not None:
        _report_moment(body.occurred_at, "occurred_at", report)


def check_not_after(checkout: Checkout, latest: int, report: Report) -> None:
    """Report a checkout that is dated after `latest` (ms UTC)."""
    if checkout.occurred_at is not None and parse_rfc3339(checkout.occurred_at) > latest:
        report(InvalidInput("occurred_in_future", "The checkout is dated in the future.", "occurred_at"))


CHECKOUT_RULES: Final = (_in_a_known_currency, _adds_up, _dated)
"""Rules of a checkout beyond its members' types."""


def parse_event(body: bytes, source: str = "") -> Event:
    """The event's bytes → Event, or `InvalidInput` that names the field.

    Only events of the source `candor.history` may carry `known_at`.
    """
    return _event(_decode(_HISTORY, body) if source == HISTORY else _decode(_EVENT, body))


def encode_event(event: Event) -> bytes:
    """Event → JSON bytes; inverse of `parse_event`."""
    body: dict[str, Any] = {
        "event_id": event.id,
        "type": event.type,
        "occurred_at": format_rfc3339(event.occurred_at),
        "entities": event.entities,
        "data": event.data,
        "schema_version": SCHEMA_VERSION,
    }
    if event.voided_at is not None:
        body["voided_at"] = format_rfc3339(event.voided_at)
    if event.known_at is not None:
        body["known_at"] = format_rfc3339(event.known_at)
    return msgspec.json.encode(body)


def parse_envelope(body: bytes) -> Event:
    """EventBridge's envelope → the Event inside, or `InvalidInput`."""
    envelope = _decode(_ENVELOPE, body)
    return parse_event(bytes(envelope.detail), envelope.source)


def _of_a_known_schema(body: EventBody, report: Report) -> None:
    if body.schema_version != SCHEMA_VERSION:
        detail = f"Only version {SCHEMA_VERSION} is known."
        report(InvalidInput("unknown_schema_version", detail, "schema_version"))


def _voided(body: EventBody, report: Report) -> None:
    if body.voided_at is not None:
        _report_moment(body.voided_at, "voided_at", report)


EVENT_RULES: Final = (_of_a_known_schema, _dated, _voided)
"""Rules of an event beyond its members' types, before its declaration is looked at."""


def _event(body: EventBody) -> Event:
    _of_a_known_schema(body, refuse)
    occurred_at = _moment(body.occurred_at, "occurred_at")
    voided_at = None if body.voided_at is None else _moment(body.voided_at, "voided_at")
    known_text = body.known_at if isinstance(body, HistoryBody) else None
    known_at = None if known_text is None else _moment(known_text, "known_at")
    return Event(body.event_id, body.type, occurred_at, body.entities, body.data, voided_at, known_at)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise refusal_of(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("malformed_json", "The body is not JSON in UTF-8.") from None


def refusal_of(error: msgspec.ValidationError) -> InvalidInput:
    """The fault that msgspec names, with its JSON path; values and strange names are not repeated."""
    match = re.match(_PATH, str(error))  # patterns are compiled on the first refusal, not at a cold start
    what, path = (match["what"], match["path"]) if match else (str(error), None)
    name, code = None, "invalid_field"
    if missing := re.fullmatch(_MISSING, what):
        what, name, code = "A required field is missing", missing["name"], "missing_field"
    elif unknown := re.fullmatch(_UNKNOWN, what):
        what = "The object has an unknown field"
        name = unknown["name"] if re.fullmatch(_SPEAKABLE, unknown["name"]) else None
    if name is not None:
        path = f"{path}.{name}" if path else name
    return InvalidInput(code, f"{what}.", path)


def _report_moment(text: str, field: str, report: Report) -> None:
    try:
        _moment(text, field)
    except InvalidInput as fault:
        report(fault)


def _moment(text: str, field: str) -> int:
    try:
        moment = parse_rfc3339(text)
    except ValueError:
        raise InvalidInput("invalid_timestamp", "Use RFC 3339 with an offset.", field) from None
    if moment < 0:
        raise InvalidInput("invalid_timestamp", "Moments before 1970 are refused.", field)
    return moment
