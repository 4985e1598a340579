"""The API as an OpenAPI 3.1 document, generated from its contracts: `python -m candor.edge.openapi` prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec

from candor.contracts import (
    SCHEMA_VERSION,
    Checkout,
    EventBody,
    Problem,
)
from candor.edge.bus import MAX_EVENTS
from candor.edge.intake import MAX_KEY_LENGTH, REPLAY_HEADER
from candor.edge.rest import API_VERSION, VERSION_HEADER
from candor.iso_codes import COUNTRIES, EXPONENTS

Schema = dict[str, Any]


class AnsweredTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The terms of an approval; `finance_charge` in minor units."""

    product: str
    installments: int
    finance_charge: int


class DecisionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The merchant's answer: `approved_amount_max` in minor units of `currency`, `expires_at` in RFC 3339.

    `terms` are null unless approved; `counter_offer` tells terms that differ from those requested. Answers stored before
    `checkout_id`, `merchant_order_id` and `counter_offer` existed are repeated without them.
    """

    id: str
    object: Literal["decision"]
    outcome: Literal["approved", "declined", "action_required"]
    approved_amount_max: int
    currency: str
    expires_at: str | None
    terms: AnsweredTerms | None
    next_action: None
    livemode: bool
    checkout_id: str | msgspec.UnsetType = msgspec.UNSET
    merchant_order_id: str | msgspec.UnsetType = msgspec.UNSET
    counter_offer: bool | msgspec.UnsetType = msgspec.UNSET


class DecisionRecordBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lender's view of a decision: `features` by name, null if this release no longer has its declarations."""

    id: str
    object: Literal["decision_record"]
    features: dict[str, float | None] | None
    answer: DecisionBody
    record: dict[str, Any]


class EventBatch(msgspec.Struct, frozen=True):
    """A batch of events, accepted as a whole or not at all."""

    events: Annotated[list[EventBody], msgspec.Meta(min_length=1, max_length=MAX_EVENTS)]


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answer of the health check."""

    status: Literal["ok"]


class Accepted(msgspec.Struct, frozen=True):
    """Number of accepted events."""

    accepted: int


GATEWAY = {
    400: ("bad_request",),
    403: ("forbidden",),
    404: ("not_found",),
    405: ("method_not_allowed",),
    429: ("too_many_requests",),
    500: ("internal",),
    504: ("timeout",),
}
"""Problem codes of the gateway, on every route."""

_MERCHANT = {401: ("unauthorized",), 429: ("quota_exceeded",)}
_BODY = {413: ("body_too_large", "too_large"), 415: ("unsupported_media_type",)}
_VERSIONED = {400: ("unknown_api_version",)}
_STORED = {404: ("decision_not_found",), 503: ("unavailable",)}
_DECIDING = {
    400: (
        "malformed_json",
        "missing_idempotency_key",
        "invalid_idempotency_key",
        "replay_clock_refused",
        "invalid_replay_moment",
    ),
    422: (
        "invalid_field",
        "missing_field",
        "unknown_currency",
        "unsupported_currency",
        "unsupported_product",
        "unsupported_country",
        "total_mismatch",
        "invalid_timestamp",
        "occurred_in_future",
        "idempotency_key_reused",
    ),
    503: ("unavailable",),
}
_PUBLISHING = {
    400: ("malformed_json",),
    422: (
        "invalid_field",
        "missing_field",
        "missing_entity",
        "out_of_range",
        "unknown_currency",
        "unknown_event_type",
        "unknown_schema_version",
        "invalid_timestamp",
        "occurred_in_future",
        "invalid_void",
    ),
    503: ("unavailable",),
}

_SECONDS = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}
_HEADERS: Mapping[int, Schema] = {
    401: {
        "WWW-Authenticate": {"description": "The scheme.", "schema": {"type": "string", "const": "Bearer"}}
    },
    405: {"Allow": {"description": "Methods that the path takes.", "schema": {"type": "string"}}},
    415: {"Accept": {"description": "Content type to send.", "schema": {"type": "string"}}},
    **dict.fromkeys((429, 500, 503, 504), _SECONDS),
}
"""Headers of a problem by its status."""

_VERSION = {"description": "API version of the response.", "schema": {"type": "string", "const": API_VERSION}}
_MOMENT = {"type": "string", "format": "date-time"}


def document() -> Schema:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Candor",
            "version": API_VERSION,
            "summary": "Credit decisions at a merchant's checkout",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The stage's ApiUrl"}],
        "paths": {
            "/v1/decisions": {"post": _decide()},
            "/v1/decisions/{id}": {"get": _show_decision()},
            "/v1/events": {"post": _publish()},
            "/internal/decisions/{id}": {"get": _show_record()},
            "/health": {"get": _health()},
        },
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY},
    }


_SECURITY = {
    "merchantKey": {
        "type": "http",
        "scheme": "basic",
        "description": "User: the merchant's key. No password.",
    },
    "merchantBearer": {"type": "http", "scheme": "bearer", "description": "The merchant's key."},
    "iam": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "AWS Signature Version 4 for the service execute-api.",
        "x-amazon-apigateway-authtype": "awsSigv4",
    },
}
_MERCHANTS: list[Schema] = [{"merchantKey": []}, {"merchantBearer": []}]
_SIGNED: list[Schema] = [{"iam": []}]


def _decide() -> Schema:
    key = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[!-~]([ -~]*[!-~])?$"}
    replayed = {
        "description": "Present, and true, if the answer was stored by an earlier request.",
        "schema": {"type": "string", "const": "true"},
    }
    return {
        "operationId": "decide",
        "summary": "Decide a checkout, once per key",
        "security": _MERCHANTS,
        "parameters": [
            _header("Idempotency-Key", "Requests with the same key get the same answer.", key, required=True),
            _version_header(),
            _header(
                REPLAY_HEADER,
                "The moment of the decision, from 1970 on; only where the stage allows the replay clock.",
                _MOMENT,
            ),
        ],
        "requestBody": _body("Checkout"),
        "responses": {
            "200": _success("Decided; a decline as well.", "DecisionBody", {"Idempotent-Replayed": replayed}),
            **_problems(GATEWAY, _MERCHANT, _BODY, _VERSIONED, _DECIDING),
        },
    }


def _show_decision() -> Schema:
    return {
        "operationId": "showDecision",
        "summary": "A merchant's own decision, as answered",
        "security": _MERCHANTS,
        "parameters": [_id(), _version_header()],
        "responses": {
            "200": _success("The bytes of the original answer.", "DecisionBody"),
            **_problems(GATEWAY, _MERCHANT, _VERSIONED, _STORED),
        },
    }


def _publish() -> Schema:
    return {
        "operationId": "publishEvents",
        "summary": "Publish events, all or none",
        "security": _SIGNED,
        "parameters": [_version_header()],
        "requestBody": _body("EventBatch"),
        "responses": {
            "202": _success("All are accepted.", "Accepted"),
            **_problems(GATEWAY, _BODY, _VERSIONED, _PUBLISHING),
        },
    }


def _show_record() -> Schema:
    return {
        "operationId": "showRecord",
        "summary": "The whole stored decision, for the lender",
        "security": _SIGNED,
        "parameters": [_id()],
        "responses": {
            "200": _success("The answer and the record as stored, features by name.", "DecisionRecordBody"),
            **_problems(GATEWAY, _STORED),
        },
    }


def _health() -> Schema:
    return {
        "operationId": "health",
        "summary": "Whether the API can be reached; it asks no function and no store",
        "security": [],
        "responses": {
            "200": {
                "description": "It can be reached.",
                "content": {"application/json": {"schema": _ref("Health")}},
            },
            **_problems(GATEWAY, {415: _BODY[415]}),
        },
    }


def _id() -> Schema:
    schema = {"type": "string", "pattern": "^dec_[a-z2-7]{26}$"}
    return {"name": "id", "in": "path", "required": True, "schema": schema}


def _version_header() -> Schema:
    schema = {"type": "string", "enum": [API_VERSION]}
    return _header(VERSION_HEADER, "Default: the only version.", schema)


def _header(name: str, description: str, schema: Schema, *, required: bool = False) -> Schema:
    return {"name": name, "in": "header", "required": required, "description": description, "schema": schema}


def _body(name: str) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": _ref(name)}}}


def _success(description: str, name: str, headers: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "description": description,
        "headers": {VERSION_HEADER: _VERSION, **(headers or {})},
        "content": {"application/json": {"schema": _ref(name)}},
    }


def _problems(*sources: Mapping[int, Iterable[str]]) -> dict[str, Schema]:
    """One response per status, with its problem codes."""
    codes: dict[int, list[str]] = {}
    for source in sources:
        for status, named in source.items():
            codes[status] = codes.get(status, []) + list(named)
    return {str(status): _problem(status, sorted(codes[status])) for status in sorted(codes)}


def _problem(status: int, codes: list[str]) -> Schema:
    described = {
        "allOf": [_ref("Problem")],
        "properties": {"status": {"const": status}, "code": {"enum": codes}},
    }
    response: Schema = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": described}},
    }
    if status in _HEADERS:
        response["headers"] = _HEADERS[status]
    return response


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> Schema:
    """Schemas of the contracts, with constraints that their types cannot express."""
    types = (Checkout, DecisionBody, DecisionRecordBody, EventBatch, Accepted, Health, Problem)
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    checkout, event = schemas["Checkout"]["properties"], schemas["EventBody"]["properties"]
    checkout["currency"] = {
        "type": "string",
        "enum": sorted(EXPONENTS),
        "description": "ISO 4217, one of those that the lender accepts. Amounts are in its minor unit; x-exponents "
        "gives its decimals.",
        "x-exponents": dict(sorted(EXPONENTS.items())),
    }
    checkout["country"] = {
        "type": "string",
        "enum": sorted(COUNTRIES),
        "description": "ISO 3166-1 alpha-2, one of those that the lender accepts.",
    }
    schemas["Offer"]["properties"]["product"]["description"] = "One of the products that the lender accepts."
    checkout["total"]["description"] = (
        "The items plus tax_amount and shipping_amount less discount_amount, in minor units."
    )
    optional = {"anyOf": [_MOMENT, {"type": "null"}], "default": None}
    checkout["occurred_at"] = optional
    event |= {
        "occurred_at": _MOMENT,
        "voided_at": optional,
        "schema_version": {"type": "integer", "enum": [SCHEMA_VERSION], "default": SCHEMA_VERSION},
    }
    schemas["DecisionBody"]["properties"]["expires_at"] = {"anyOf": [_MOMENT, {"type": "null"}]}
    return dict(sorted(schemas.items()))


def text() -> str:
    """The document as JSON text."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
