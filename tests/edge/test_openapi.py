"""The OpenAPI document: committed, valid, and consistent with the contracts, the reference and the gateway."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from candor.edge import openapi
from candor.edge.rest import STATUS_OF
from candor.iso_codes import EXPONENTS
from stacks.constructs.problems import PROBLEMS
from tests.handlers.checkouts import BAD_CHECKOUTS, checkout, planted

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = openapi.document()


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


def codes() -> set[tuple[str, int]]:
    documented = set()
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                for content in response["content"].values():
                    named = content["schema"].get("properties", {}).get("code", {}).get("enum", ())
                    documented |= {(code, int(status)) for code in named}
    return documented


def test_the_committed_document_is_what_the_contracts_say():
    assert (ROOT / "docs/reference/openapi.json").read_text("utf-8") == openapi.text(), "run make openapi"


def test_it_is_openapi_3_1():
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_its_codes_are_those_of_the_reference_with_the_same_status():
    page = (ROOT / "docs/reference/api.md").read_text("utf-8")
    listed = {
        (code, int(status))
        for statuses, named in re.findall(r"^\| ([\d, ]+) \| ([^|]+) \|", page, re.MULTILINE)
        for status in statuses.split(", ")
        for code in re.findall(r"`(\w+)`", named)
    }
    # The table pairs both codes of its one row of two statuses with each of them.
    paired = {("internal", 504), ("timeout", 500)}
    assert listed - paired == codes()


def test_what_we_and_the_gateway_answer_is_in_it():
    ours = {(code, status) for code, status in STATUS_OF.items() if code != "unauthorized"}
    gateways = {(problem.code, problem.status) for problem in PROBLEMS}
    assert ours | gateways <= codes()


def test_every_documented_code_is_answered_in_some_test():
    tests = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    untested = {code for code, _ in codes() if not any(f'"{code}"' in text for text in tests)}
    assert untested == set()


@pytest.mark.parametrize("body", [checkout(), planted()], ids=["plain", "with every text"])
def test_a_good_checkout_fits_its_schema(body):
    assert list(schema("Checkout").iter_errors(body)) == []


# What a schema cannot say: sums, clocks beyond their form, and what this lender accepts of the standards' codes.
BEYOND = ("total_mismatch", "occurred_in_future", "unsupported_currency", "unsupported_product")
REFUSED = {
    name: body
    for name, (body, _, code, _) in BAD_CHECKOUTS.items()
    if isinstance(body, dict)
    and code not in BEYOND
    and name not in ("a clock before 1970", "a country that is not lent in")
    and name != "a total with a point"  # 4000.0 is an integer to JSON Schema
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_a_bad_checkout_does_not(body: Any):
    assert list(schema("Checkout").iter_errors(body))


def test_exponents_are_iso_4217s():
    """Against the standard's own exceptions; all other currencies have two decimals."""
    none = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
    three = "BHD IQD JOD KWD LYD OMR TND"
    exceptions = dict.fromkeys(none.split(), 0) | dict.fromkeys(three.split(), 3)
    assert {code: exponent for code, exponent in EXPONENTS.items() if exponent != 2} == exceptions
    assert len(EXPONENTS) == 155
    served = DOCUMENT["components"]["schemas"]["Checkout"]["properties"]["currency"]
    assert served["x-exponents"] == EXPONENTS
    assert served["enum"] == sorted(EXPONENTS)
