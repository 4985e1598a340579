"""`candor sql` prints no token, and its hashes join and group."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest

from cli.token_hashes import PREFIX, TokenHashes
from history.archive.tables import TABLES
from lender import DEFINITIONS
from tests.cli.deployed import called

ANN, BOB, DEVICE = "tok_ann_canary", "tok_ann_canary_2", "dev_canary"
VIEW = next(view for view in DEFINITIONS.views if view.entity.name == "customer")
BY_MERCHANT = next(view for view in DEFINITIONS.views if view.entity.name == "merchant")


def event(number: int, customer: str, **data: object) -> dict:
    detail = {
        "event_id": f"evt_{number}",
        "type": "payment.due",
        "occurred_at": "2026-11-24T08:00:00Z",
        "entities": {"customer": customer, "device": DEVICE, "merchant": "mer_open"},
        "data": {"amount": number, "currency": "USD", "loan_id": "l1", **data},
    }
    return {"time": "2026-11-24T08:00:01Z", "detail": detail}


def write(folder, prefix: str, *lines: dict) -> None:
    path = folder / f"{prefix}2026/11/24/08/part.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))


@pytest.fixture
def folder(tmp_path):
    checkout = {"applicant": {"token": ANN, "email_sha256": "ab" * 32}, "device": {"ip_prefix": "10.1.2"}}
    write(
        tmp_path,
        "events/",
        event(1, ANN, checkout=checkout),
        event(2, ANN, note=f"{BOB} pays for {ANN}"),
        event(3, BOB),
        {"time": "2026-11-24T08:00:01Z", "detail": {"type": ANN}},
    )
    commit = {"birth": 1, "n": 1, "applied_at": 1, "event_ids": ["evt_1"]}
    keys = (*VIEW.item_keys(ANN), *BY_MERCHANT.item_keys("mer_open"))
    write(tmp_path, "commits/", *(commit | {"key": key} for key in keys))
    assert called("archive", "compact", "--archive", str(tmp_path)).exit_code == 0
    return tmp_path


def query(folder, text: str, *words: str) -> list[list]:
    result = called("sql", text, "--archive", str(folder), "--json", *words)
    assert result.exit_code == 0, result.output
    if not words:
        assert "canary" not in result.output.replace(text, "")
    return json.loads(result.stdout)["rows"]


def test_no_column_of_any_table_prints_a_token(folder):
    for table in TABLES:
        shown = query(folder, f"SELECT * FROM {table.name}")
        assert table.name == "decisions" or shown
    assert "abab" not in str(query(folder, "SELECT data FROM events"))
    assert "10.1.2" not in str(query(folder, "SELECT data FROM events"))
    result = called("sql", "SELECT entities['customer']::int FROM events", "--archive", str(folder))
    assert result.exit_code == 1
    assert "canary" not in result.output


def test_hashes_group_and_join(folder):
    counted = query(
        folder,
        "SELECT entities['customer'] AS who, count(*) FROM events WHERE type IS NOT NULL GROUP BY who ORDER BY 2",
    )
    assert [row[1] for row in counted] == [1, 2]
    assert all(row[0].startswith(PREFIX) for row in counted)
    joined = query(
        folder,
        "SELECT DISTINCT view FROM commits JOIN events ON key LIKE '%#' || entities['customer'] || '%'",
    )
    assert joined == [[VIEW.name]]
    assert query(folder, "SELECT sum((data->>'amount')::int), any_value(data->>'loan_id') FROM events") == [
        [6, "l1"]
    ]
    assert query(folder, "SELECT DISTINCT entities['merchant'] FROM events WHERE type IS NOT NULL") == [
        ["mer_open"]
    ]


def test_a_token_that_one_has_is_looked_up_by_its_hash(folder):
    text = f"SELECT count(*) FROM events WHERE entities['customer'] = hidden('{ANN}')"
    assert query(folder, text) == query(folder, text, "--with-tokens") == [[2]]


def test_tokens_are_printed_on_request(folder):
    rows = query(folder, "SELECT DISTINCT entities['customer'] FROM events ORDER BY 1", "--with-tokens")
    assert rows == [[ANN], [BOB], [None]]
    [[data]] = query(folder, "SELECT data FROM events WHERE event_id = 'evt_2'", "--with-tokens")
    assert json.loads(data)["note"] == f"{BOB} pays for {ANN}"


def test_two_queries_cannot_be_linked():
    assert TokenHashes(DEFINITIONS).of(ANN) != TokenHashes(DEFINITIONS).of(ANN)
    assert TokenHashes(DEFINITIONS, b"key").of(ANN) == TokenHashes(DEFINITIONS, b"key").of(ANN)


def test_item_keys_keep_view_and_shard_and_lose_the_token():
    hashes = TokenHashes(DEFINITIONS)
    for view in DEFINITIONS.kept:
        for key in view.item_keys("tok/1"):
            shown = hashes.item_key(key)
            if view.entity.name == "merchant":
                assert shown == key
            else:
                assert shown == key.replace("tok/1", hashes.of("tok/1"))
    assert hashes.item_key("gone@00000000#tok") == f"gone@00000000#{hashes.of('tok')}"


def test_texts_within_texts_and_names_are_hidden():
    hashes = TokenHashes(DEFINITIONS)
    shown = hashes.json(json.dumps({ANN: [f"<{ANN}>", {"token": "x1"}, "x1"], "n": 1.5}), {"customer": ANN})
    assert json.loads(shown) == {
        hashes.of(ANN): [f"<{hashes.of(ANN)}>", {"token": hashes.of("x1")}, hashes.of("x1")],
        "n": 1.5,
    }
    assert hashes.json("no JSON") == hashes.of("no JSON")


def test_every_text_column_is_declared_or_known_to_hold_no_token():
    free = {
        "events": {"event_id", "type"},
        "decisions": {
            "id",
            "merchant_id",
            "checkout_id",
            "currency",
            "outcome",
            "component",
            "reasons",
            "bundle",
            "policy",
            "definition_hash",
        },
        "commits": {"view", "event_ids"},
    }
    for table in TABLES:
        texts = {
            field.name
            for field in table.schema
            if pa.types.is_string(field.type) or pa.types.is_nested(field.type)
        }
        assert texts == free[table.name] | set(table.tokens)
