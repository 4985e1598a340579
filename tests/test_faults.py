"""All faults of a refused body: the same as the contract finds alone, together, and never a value."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.contracts import (
    CHECKOUT_RULES,
    EVENT_RULES,
    MAX_BODY_BYTES,
    MOST_FAULTS,
    Checkout,
    EventBody,
    parse_checkout,
    parse_event,
)
from candor.errors import InvalidInput
from candor.faults import all_faults, refused
from tests.test_contracts import CHECKOUT, EVENT, MISSING, SECRET, changed

FAULTY = {
    "checkout_id": 7, "country": "us", "currency": "XXX", "tax_amount": -1, "shipping_amount": 1.0,
    "items.0.sku": "", "items.0.qty": MISSING, "items.1.unit_price": SECRET, "items.1.note": SECRET,
    "applicant.token": MISSING, "applicant.email_sha256": SECRET, "offer.installments": 0, "offer.product": None,
    "device.session_age_s": [SECRET], "device.os": {SECRET: SECRET}, "occurred_at": SECRET, "tip": 1,
}  # fmt: skip
"""Changes of a checkout, each of which is one fault."""


def first_of(parse, body: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parse(body)
    return caught.value


def listed(body: bytes) -> list[InvalidInput]:
    return list(refused(Checkout, body, first_of(parse_checkout, body), CHECKOUT_RULES).faults)


def with_faults(paths) -> bytes:
    body = CHECKOUT
    for path in paths:
        body = changed(body, path, FAULTY[path])
    return json.dumps(body).encode()


def keyed(faults) -> list[tuple[str, str | None, str]]:
    return [(fault.code, fault.field, fault.detail) for fault in faults]


@pytest.mark.parametrize("path", FAULTY)
def test_one_fault_is_listed_alone_as_the_contract_names_it(path):
    body = with_faults([path])
    first = first_of(parse_checkout, body)
    assert keyed(listed(body)) == keyed([first])
    assert keyed(all_faults(Checkout, body, CHECKOUT_RULES)) == keyed([first])


@given(st.sets(st.sampled_from(sorted(FAULTY)), min_size=2))
def test_several_faults_are_those_of_each_and_the_contracts_is_the_first(paths):
    ordered = sorted(paths)
    body = with_faults(ordered)
    faults = listed(body)
    each = [keyed([first_of(parse_checkout, with_faults([path]))])[0] for path in ordered]
    assert sorted(keyed(faults)) == sorted(set(each))
    assert keyed(faults)[0] == keyed([first_of(parse_checkout, body)])[0]
    assert SECRET not in str(keyed(faults))


@pytest.mark.parametrize("name", sorted(EVENT))
@pytest.mark.parametrize(
    "value",
    [MISSING, None, 7, SECRET, [SECRET], {SECRET: 1}],
    ids=["missing", "null", "number", "text", "list", "object"],
)
def test_an_events_first_fault_is_the_contracts(name, value):
    body = json.dumps(changed(EVENT, name, value)).encode()
    faults = keyed(all_faults(EventBody, body, EVENT_RULES))
    with pytest.raises(InvalidInput) if faults else nullcontext() as caught:
        parse_event(body)
    assert faults[:1] == (keyed([caught.value]) if faults else [])
    assert SECRET not in str(faults)


def test_a_total_is_not_judged_by_a_faulty_part():
    body = json.dumps(changed(changed(CHECKOUT, "tax_amount", "1"), "total", 1)).encode()
    assert [fault.field for fault in listed(body)] == ["tax_amount"]


def test_a_body_that_breaks_off_has_the_fault_that_was_seen():
    body = json.dumps(changed(CHECKOUT, "checkout_id", 7)).encode()[:-20]
    assert keyed(listed(body)) == [("invalid_field", "checkout_id", "Expected `str`, got `int`.")]


def test_of_two_members_of_one_name_the_first_fault_is_listed():
    body = json.dumps(CHECKOUT).encode().replace(b'"total": 2500', b'"total": -1, "total": 2500')
    assert [(fault.code, fault.field) for fault in listed(body)] == [("invalid_field", "total")]


@pytest.mark.parametrize(
    "part", [b'"%s": 1', b'"items": [%s]'], ids=["unknown members", "items that are numbers"]
)
def test_a_body_full_of_faults_is_answered_with_the_first_hundred(part):
    names = [
        b"x" + bytes([97 + place // 676 % 26, 97 + place // 26 % 26, 97 + place % 26]) for place in range(500)
    ]
    if b"items" in part:
        body = b'{"a": 1, ' + part % b",".join([b"1"] * 500) + b"}"
    else:
        body = b"{" + b",".join(part % name for name in names) + b"}"
    assert len(body) < MAX_BODY_BYTES
    assert len(listed(body)) == MOST_FAULTS


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_is_refused_has_its_own_fault_in_front(body):
    first = first_of(parse_checkout, body)
    assert keyed(listed(body))[0] == keyed([first])[0]


def test_nesting_without_end_is_refused_in_bounded_depth():
    deep = b"[" * 60_000
    assert listed(b'{"checkout_id": 7, "note": ' + deep)[0].field == "checkout_id"
