"""Contracts: strict parsing, and errors that name the field and never repeat a value."""

import copy
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.clock import parse_rfc3339
from candor.contracts import (
    HISTORY,
    MAX_AMOUNT,
    PLATFORM,
    Checkout,
    Event,
    encode_event,
    parse_checkout,
    parse_envelope,
    parse_event,
)
from candor.errors import InvalidInput

CHECKOUT = {
    "checkout_id": "chk_1", "merchant_order_id": "ord_1", "country": "US", "currency": "USD", "total": 2_500,
    "tax_amount": 300, "shipping_amount": 400, "discount_amount": 200,
    "items": [
        {"sku": "a", "category": "shoes", "unit_price": 500, "qty": 3},
        {"sku": "b", "unit_price": 500, "qty": 1},
    ],
    "applicant": {"token": "app_tok_1", "email_sha256": "0" * 64, "shipping_matches_billing": True},
    "offer": {"product": "pay_in_4", "installments": 4, "period_days": 14, "finance_charge": 0},
    "device": {"fingerprint": "dev_1", "ip_prefix": "203.0.113", "session_age_s": 60},
    "occurred_at": "2026-11-23T16:41:07.120Z",
}  # fmt: skip
EVENT = {
    "event_id": "evt_1", "type": "payment.succeeded", "occurred_at": "2026-11-23T17:41:07.120+01:00",
    "schema_version": 1, "entities": {"customer": "app_tok_1"}, "data": {"amount": 1_000, "currency": "USD"},
}  # fmt: skip
SECRET = "jane.doe@example.com"
MONEY = [
    "total",
    "tax_amount",
    "shipping_amount",
    "discount_amount",
    "items.0.unit_price",
    "offer.finance_charge",
]
MISSING = object()


def changed(base, path, value):
    """A copy of the base with one member replaced or removed."""
    copied = copy.deepcopy(base)
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner = copied
    for step in parents:
        inner = inner[step]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value
    return copied


def refusal(parse, body) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert SECRET not in str(caught.value)
    assert caught.value.detail.endswith(".")
    return caught.value


def shown(path):
    """JSON path of a member as refusals write it."""
    return path.replace(".0.", "[0].")


def test_a_checkout_is_read_whole():
    checkout = parse_checkout(json.dumps(CHECKOUT).encode())
    assert isinstance(checkout, Checkout)
    assert json.loads(json.dumps(CHECKOUT))["items"][0]["category"] == checkout.items[0].category
    assert (checkout.total, checkout.applicant.token, checkout.device.session_age_s) == (
        2_500,
        "app_tok_1",
        60,
    )


def test_only_what_is_needed_is_required():
    least = {
        **{name: CHECKOUT[name] for name in ("checkout_id", "merchant_order_id", "country", "currency")},
        "total": 1, "items": [{"sku": "a", "unit_price": 1, "qty": 1}], "applicant": {"token": "t"},
        "offer": {"product": "p", "installments": 1, "period_days": 1},
    }  # fmt: skip
    checkout = parse_checkout(json.dumps(least).encode())
    assert (checkout.tax_amount, checkout.device, checkout.occurred_at) == (0, None, None)
    for name in least:
        error = refusal(parse_checkout, changed(least, name, MISSING))
        assert (error.code, error.field, error.detail) == (
            "missing_field",
            name,
            "A required field is missing.",
        )


@pytest.mark.parametrize("path", MONEY)
@pytest.mark.parametrize("value", [-1, MAX_AMOUNT + 1, 10**40, 10.0, 10.5, "10", True, None, SECRET, [1]])
def test_money_is_integer_minor_units_within_bounds(path, value):
    error = refusal(parse_checkout, changed(CHECKOUT, path, value))
    assert (error.code, error.field) == ("invalid_field", shown(path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("total", 0),
        ("items", []),
        ("items", [CHECKOUT["items"][0]] * 501),
        ("items.0.qty", 0),
        ("items.0.qty", 100_001),
        ("items.0.qty", True),
        ("items.0.sku", ""),
        ("items.0.sku", "x" * 129),
        ("items.0.category", "x" * 257),
        ("offer.installments", 0),
        ("offer.installments", 61),
        ("offer.period_days", 367),
        ("country", "us"),
        ("country", "USA"),
        ("country", "U5"),
        ("country", "US\n"),
        ("applicant.token", ""),
        ("applicant.email_sha256", SECRET),
        ("applicant.email_sha256", "0" * 64 + "\n"),
        ("applicant.shipping_matches_billing", 1),
        ("device.session_age_s", -1),
        ("checkout_id", 7),
        ("merchant_order_id", None),
        ("applicant", SECRET),
    ],
)
def test_fields_out_of_their_bounds_are_named(path, value):
    error = refusal(parse_checkout, changed(CHECKOUT, path, value))
    assert (error.code, error.field) == ("invalid_field", shown(path))


@pytest.mark.parametrize(
    "path", ["checkout_note", "items.0.note", "applicant.name", "offer.apr", "device.os"]
)
def test_unknown_fields_are_refused(path):
    error = refusal(parse_checkout, changed(CHECKOUT, path, SECRET))
    assert (error.code, error.field) == ("invalid_field", shown(path))


@pytest.mark.parametrize("name", [SECRET, "4242424242424242", "a b", "x" * 100, "$", "`", "naïve"])
def test_an_unknown_field_that_is_no_plain_word_is_not_repeated(name):
    error = refusal(parse_checkout, changed(CHECKOUT, "applicant", {"token": "t", name: 1}))
    assert name not in f"{error} {error.field}"
    assert error.field == "applicant"


@pytest.mark.parametrize("currency", ["usd", "US", "XXX", "USDX", "", " USD", SECRET])
def test_unknown_currencies_are_refused(currency):
    error = refusal(parse_checkout, changed(CHECKOUT, "currency", currency))
    assert (error.code, error.field) == ("unknown_currency", "currency")


@pytest.mark.parametrize("path", ["total", "tax_amount", "items.1.unit_price", "items.1.qty"])
def test_the_total_must_equal_its_parts(path):
    inner = CHECKOUT
    for step in path.split("."):
        inner = inner[int(step) if step.isdigit() else step]
    error = refusal(parse_checkout, changed(CHECKOUT, path, inner + 1))
    assert (error.code, error.field) == ("total_mismatch", "total")


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 50)), min_size=1, max_size=5),
    st.integers(0, 10**4), st.integers(0, 10**4), st.integers(0, 10**4), st.integers(-2, 2),
)  # fmt: skip
def test_the_total_rule_holds_for_every_basket(rows, tax, shipping, discount, wrong):
    total = sum(price * qty for price, qty in rows) + tax + shipping - discount
    if total + wrong < 1:
        return
    items = [{"sku": "s", "unit_price": price, "qty": qty} for price, qty in rows]
    amounts = {"tax_amount": tax, "shipping_amount": shipping, "discount_amount": discount}
    body = {**CHECKOUT, **amounts, "items": items, "total": total + wrong}
    if wrong:
        assert refusal(parse_checkout, body).code == "total_mismatch"
    else:
        assert parse_checkout(json.dumps(body).encode()).total == total


@pytest.mark.parametrize(
    "when", ["2026-11-23T16:41:07", "2026-11-23", "yesterday", "", "1969-12-31T23:59:59Z"]
)
@pytest.mark.parametrize(("parse", "base"), [(parse_checkout, CHECKOUT), (parse_event, EVENT)])
def test_moments_need_an_offset_and_come_after_1970(parse, base, when):
    error = refusal(parse, changed(base, "occurred_at", when))
    assert (error.code, error.field) == ("invalid_timestamp", "occurred_at")


NOT_JSON = {
    "nothing": b"",
    "text": b"total=1",
    "half": json.dumps(CHECKOUT).encode()[:-1],
    "two": b"{}{}",
    "invalid UTF-8": json.dumps(CHECKOUT).encode().replace(b"chk_1", b"\xff\xfe"),
    "UTF-16": json.dumps(CHECKOUT).encode("utf-16"),
    "lone surrogate": json.dumps(CHECKOUT).encode().replace(b"chk_1", b"\\ud800"),
    "NaN": json.dumps({**CHECKOUT, "total": float("nan")}).encode(),
    "control character": json.dumps(CHECKOUT).encode().replace(b"chk_1", b"\x01"),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
@pytest.mark.parametrize("parse", [parse_checkout, parse_event, parse_envelope])
def test_bytes_that_are_not_json_are_malformed(parse, body):
    assert refusal(parse, body).code in ("malformed_json", "invalid_field", "missing_field")


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
@pytest.mark.parametrize("parse", [parse_checkout, parse_event, parse_envelope])
def test_json_that_is_no_object_is_refused(parse, body):
    assert refusal(parse, body).code == "invalid_field"


@pytest.mark.parametrize("brackets", [b"[]", b'{"a":}'])
def test_deep_nesting_is_refused_and_never_breaks_the_process(brackets):
    deep = brackets[:-1] * 100_000 + b"1" + brackets[-1:] * 100_000
    event = json.dumps(EVENT).encode().replace(b'"USD"', deep)
    for parse, body in [
        (parse_event, event),
        (parse_envelope, b'{"detail":' + event + b"}"),
        (parse_checkout, b'{"note":' + deep + b"}"),
    ]:
        assert refusal(parse, body).code in ("malformed_json", "invalid_field")


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_comes_is_refused_in_words(body):
    for parse in (parse_checkout, parse_event, parse_envelope):
        with pytest.raises(InvalidInput):
            parse(body)


@pytest.mark.parametrize(
    "name", ["country", "items", "offer", "device", "occurred_at", "applicant", "currency"]
)
@pytest.mark.parametrize("value", [SECRET, [SECRET], {SECRET: SECRET}, {"token": [SECRET]}], ids=repr)
def test_a_refusal_never_repeats_the_value(name, value):
    error = refusal(parse_checkout, changed(CHECKOUT, name, value))
    assert SECRET not in f"{error} {error.detail} {error.field}"


def test_an_event_is_read_with_its_moment_in_utc():
    wanted = Event(
        "evt_1", "payment.succeeded", parse_rfc3339("2026-11-23T16:41:07.120Z"),
        {"customer": "app_tok_1"}, {"amount": 1_000, "currency": "USD"},
    )  # fmt: skip
    body = json.dumps(EVENT).encode()
    assert parse_event(body) == wanted
    envelope = {"version": "0", "id": "x", "source": "candor.lender", "detail-type": "t", "detail": EVENT}
    assert parse_envelope(json.dumps(envelope).encode()) == wanted


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("event_id", "", "event_id"),
        ("event_id", "x" * 129, "event_id"),
        ("event_id", MISSING, "event_id"),
        ("type", 1, "type"),
        ("occurred_at", 1_800_000_000_000, "occurred_at"),
        ("entities", MISSING, "entities"),
        ("entities.customer", "", "entities[...]"),
        ("entities.customer", None, "entities[...]"),
        ("entities.", "x", "entities"),
        ("data", [], "data"),
        ("data", MISSING, "data"),
        ("note", SECRET, "note"),
    ],
)
def test_an_event_of_another_shape_is_refused_with_the_field(path, value, field):
    error = refusal(parse_event, changed(EVENT, path, value))
    code = "missing_field" if value is MISSING else "invalid_field"
    assert (error.code, error.field) == (code, field)


@pytest.mark.parametrize("version", [0, 2])
def test_other_schema_versions_are_refused(version):
    error = refusal(parse_event, {**EVENT, "schema_version": version})
    assert (error.code, error.field) == ("unknown_schema_version", "schema_version")


def test_the_data_of_an_event_are_carried_as_they_are():
    data = {"amount": 10**30, "rate": 0.1, "deep": [{"a": None}], "": "", "ü": "\u0000"}
    assert parse_event(json.dumps({**EVENT, "data": data}).encode()).data == data


def test_an_envelope_without_a_detail_is_refused():
    assert refusal(parse_envelope, {"id": "x"}).field == "detail"


@pytest.mark.parametrize("voided_at", [None, 1_800_000_000_001])
@pytest.mark.parametrize("known_at", [None, 1_800_000_000_002])
def test_an_event_survives_its_own_encoding(voided_at, known_at):
    event = Event(
        "e",
        "payment.succeeded",
        1_800_000_000_000,
        {"customer": "ann"},
        {"amount": 5, "note": [1.5]},
        voided_at,
        known_at,
    )
    assert parse_event(encode_event(event), HISTORY) == event
    assert (b"voided_at" in encode_event(event)) is (voided_at is not None)
    assert (b"known_at" in encode_event(event)) is (known_at is not None)


def enveloped(source, **changed):
    """An event as the queue brings it, from this source."""
    return json.dumps({"source": source, "detail": {**EVENT, **changed}}).encode()


def test_loaded_history_may_say_when_it_became_known():
    known_at = "2026-11-24T00:00:00Z"
    event = parse_envelope(enveloped(HISTORY, known_at=known_at))
    assert event.known_at == event.known_from == parse_rfc3339(known_at)
    assert parse_envelope(enveloped(HISTORY)).known_at is None


@pytest.mark.parametrize("source", ["candor.lender", PLATFORM, "", "candor.historyx"])
def test_no_other_source_may_say_when_an_event_became_known(source):
    with pytest.raises(InvalidInput) as refused:
        parse_envelope(enveloped(source, known_at="2026-11-24T00:00:00Z"))
    assert (refused.value.code, refused.value.field) == ("invalid_field", "known_at")


@pytest.mark.parametrize("known_at", ["yesterday", "2026-11-24T00:00:00", "1969-12-31T23:59:59Z"])
def test_a_moment_of_knowledge_is_a_moment(known_at):
    with pytest.raises(InvalidInput) as refused:
        parse_envelope(enveloped(HISTORY, known_at=known_at))
    assert (refused.value.code, refused.value.field) == ("invalid_timestamp", "known_at")


@pytest.mark.parametrize(
    ("voided_at", "known_at", "known_from"),
    [(None, None, 10), (None, 9, 10), (None, 11, 11), (20, None, 20), (20, 11, 20), (20, 21, 21)],
)
def test_nothing_is_known_before_it_happened(voided_at, known_at, known_from):
    assert Event("e", "t", 10, {}, {}, voided_at, known_at).known_from == known_from


def test_a_void_is_told_from_its_event_by_its_deduplication_id():
    event = Event("e", "t", 1, {}, {})
    assert (event.dedup_id, msgspec.structs.replace(event, voided_at=2).dedup_id) == ("e", "e~void")
