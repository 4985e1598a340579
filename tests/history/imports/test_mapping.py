"""Mappings: what they make of rows, and what is said of a malformed one."""

import gzip
import json
from pathlib import Path

import pytest

from candor.clock import parse_rfc3339
from candor.contracts import HISTORY, parse_checkout, parse_event
from candor.errors import InvalidInput
from history.imports.mapping import MappingError, read_mapping
from history.imports.sql import EventQuery, connected
from lender import DEFINITIONS

ROOT = Path(__file__).resolve().parents[3]
FLAG = """
[[event]]
type = "account.flagged"
id = "'flag_' || id"
occurred_at = "at"
entities.customer = "customer"
data.flag = "flag"
"""


def mapped(folder, mapping: str, *names: str) -> list[bytes]:
    paths = [folder / name for name in names] or sorted(path for path in folder.iterdir() if path.is_file())
    with connected(paths, folder) as engine:
        query = EventQuery(engine, read_mapping(mapping, DEFINITIONS), paths)
        return [row.detail for batch in query.batches(100) for row in batch]


def checked(detail: bytes):
    event = parse_event(detail, HISTORY)
    DEFINITIONS.check_event(event, event.occurred_at)
    return event


def rows(folder, *texts: str, name: str = "rows.csv"):
    (folder / name).write_text("\n".join(texts) + "\n")
    return folder


def test_a_row_makes_an_event(tmp_path):
    rows(tmp_path, "id,at,customer,flag", "1,2026-05-01 10:00:00,ann,address")
    [detail] = mapped(tmp_path, FLAG)
    event = parse_event(detail, HISTORY)
    assert (event.id, event.type, event.entities, event.data) == (
        "flag_1",
        "account.flagged",
        {"customer": "ann"},
        {"flag": "address"},
    )
    assert event.occurred_at == parse_rfc3339("2026-05-01T10:00:00Z")
    DEFINITIONS.check_event(event, event.occurred_at)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-01 10:00:00", "2026-05-01T10:00:00Z"),
        ("2026-05-01T10:00:00+02:00", "2026-05-01T08:00:00Z"),
        ("2026-05-01", "2026-05-01T00:00:00Z"),
        ("1777629600000", "2026-05-01T10:00:00Z"),
        ("2026-05-01 10:00:00.123456", "2026-05-01T10:00:00.123Z"),
    ],
)
def test_moments_are_read_as_they_come(tmp_path, text, moment):
    rows(tmp_path, "id,at,customer,flag", f"1,{text},ann,address")
    [detail] = mapped(tmp_path, FLAG)
    assert parse_event(detail, HISTORY).occurred_at == parse_rfc3339(moment)


def test_moments_without_an_offset_are_of_the_declared_zone(tmp_path):
    rows(tmp_path, "id,at,customer,flag", "1,2026-07-01 10:00:00,ann,a", "2,2026-01-01 10:00:00,ann,a")
    details = mapped(tmp_path, '[rows.rows]\ntimezone = "Europe/Berlin"\n' + FLAG)
    assert [json.loads(detail)["occurred_at"] for detail in details] == [
        "2026-01-01T09:00:00.000Z",
        "2026-07-01T08:00:00.000Z",
    ]


@pytest.mark.parametrize(
    ("expression", "amount"),
    [
        ("money(sum, 'USD')", 1_999),
        ("money(sum, 'JPY')", "19.990000"),
        ("CAST(sum * 100 AS INTEGER)", 1_999),
        ("sum", "19.99"),
        ("text", 57),
        ("'12.50'", "12.500000"),
        ("'nonsense'", "nonsense"),
        ("CAST('nan' AS DOUBLE)", "nan"),
        ("CAST(1e30 AS DOUBLE)", "1e+30"),
        ("TIMESTAMP '1970-01-02'", 86_400_000),
    ],
)
def test_a_number_is_whole_or_refused_and_never_rounded(tmp_path, expression, amount):
    rows(
        tmp_path,
        '{"id": 1, "at": "2026-05-01 10:00:00", "customer": "ann", "sum": 19.99, "text": "57"}',
        name="r.jsonl",
    )
    mapping = FLAG.replace("account.flagged", "refund.created").replace(
        'data.flag = "flag"', f"data.amount = {json.dumps(expression)}\ndata.currency = \"'USD'\""
    )
    [detail] = mapped(tmp_path, mapping)
    assert json.loads(detail)["data"]["amount"] == amount
    event = parse_event(detail, HISTORY)
    if isinstance(amount, str):
        with pytest.raises(InvalidInput, match="integer"):
            DEFINITIONS.check_event(event, event.occurred_at)
    else:
        DEFINITIONS.check_event(event, event.occurred_at)


def test_what_is_null_is_left_out_and_then_missing(tmp_path):
    rows(
        tmp_path,
        "id,at,customer,flag",
        "1,2026-05-01 10:00:00,ann,",
        "2,,ann,address",
        "3,2026-05-01 10:00:00,,a",
    )
    details = sorted(mapped(tmp_path, FLAG), key=lambda detail: json.loads(detail)["event_id"])
    faults = []
    for detail in details:
        with pytest.raises(InvalidInput) as refused:
            checked(detail)
        faults.append((refused.value.code, refused.value.field))
    assert faults == [
        ("missing_field", "data.flag"),
        ("missing_field", "occurred_at"),
        ("missing_entity", "entities"),
    ]


def test_a_row_may_make_several_events_some_of_them_and_a_void(tmp_path):
    rows(
        tmp_path,
        "id,at,customer,flag,cleared,withdrawn,known",
        "1,2026-05-01 10:00:00,ann,a,2026-05-03 00:00:00,,",
        "2,2026-05-02 10:00:00,bob,b,,2026-05-02 12:00:00,2026-05-09",
    )
    mapping = (
        FLAG
        + 'voided_at = "withdrawn"\nknown_at = "known"\n'
        + FLAG.replace("account.flagged", "account.cleared")
        .replace('"at"', '"cleared"')
        .replace("'flag_'", "'clear_'")
        + 'where = "cleared IS NOT NULL"\n'
    )
    events = [parse_event(detail, HISTORY) for detail in mapped(tmp_path, mapping)]
    assert [(event.dedup_id, event.type) for event in events] == [
        ("flag_1", "account.flagged"),
        ("flag_2", "account.flagged"),
        ("flag_2~void", "account.flagged"),
        ("clear_1", "account.cleared"),
    ]
    assert events[1].known_at == parse_rfc3339("2026-05-09T00:00:00Z")
    assert events[2].known_at is None
    assert events[2].data == events[1].data


def test_files_of_several_shapes_have_rows_of_their_own(tmp_path):
    rows(tmp_path, "id,at,customer,flag", "1,2026-05-01 10:00:00,ann,a", name="flags_1.csv")
    (tmp_path / "more.jsonl.gz").write_bytes(
        gzip.compress(b'{"number": 7, "when": 1777629600000, "who": "bob", "tags": ["x", "y"]}\n')
    )
    mapping = (
        '[rows.flags]\nfiles = "flags*.csv"\n'
        '[rows.tags]\nfiles = "*.jsonl.gz"\nselect = "SELECT number, \\"when\\", who, unnest(tags) AS tag FROM source"\n'
        + FLAG.replace("[[event]]", '[[event]]\nrows = "flags"')
        + '[[event]]\nrows = "tags"\ntype = "account.flagged"\nid = "CONCAT(\'tag_\', number, tag)"\n'
        'occurred_at = "\\"when\\""\nentities.customer = "who"\ndata.flag = "tag"\n'
    )
    assert sorted(json.loads(detail)["event_id"] for detail in mapped(tmp_path, mapping)) == [
        "flag_1",
        "tag_7x",
        "tag_7y",
    ]


CHECKOUT = """
[[checkout]]
occurred_at = "at"
merchant = "'mer_1'"
outcome = "CASE WHEN granted THEN 'approved' ELSE 'declined' END"
[checkout.body]
checkout_id = "'chk_' || id"
merchant_order_id = "'order_' || id"
country = "'DE'"
currency = "'EUR'"
total = "money(sum, 'EUR')"
items = "[{sku: 'x', unit_price: CAST(money(sum, 'EUR') AS BIGINT), qty: 1}]"
applicant.token = "customer"
offer.product = "'pay_in_4'"
offer.installments = "4"
offer.period_days = "14"
device.fingerprint = "device"
"""


def test_a_past_checkout_is_one_of_the_platform(tmp_path):
    rows(
        tmp_path,
        "id,at,customer,sum,device,granted",
        "1,2026-05-01 10:00:00,ann,12.5,,true",
        "2,2026-05-02,bob,7,dev_1,false",
    )
    events = [parse_event(detail, HISTORY) for detail in mapped(tmp_path, CHECKOUT)]
    for event in events:
        DEFINITIONS.check_event(event, event.occurred_at)
    assert [(event.type, event.entities) for event in events] == [
        ("checkout.decided", {"customer": "ann", "merchant": "mer_1"}),
        ("checkout.started", {"customer": "ann", "merchant": "mer_1"}),
        ("checkout.decided", {"customer": "bob", "merchant": "mer_1", "device": "dev_1"}),
        ("checkout.started", {"customer": "bob", "merchant": "mer_1", "device": "dev_1"}),
    ]
    body = events[1].data["checkout"]
    assert body["items"] == [{"sku": "x", "unit_price": 1_250, "qty": 1}]
    assert "device" not in body or body["device"] == {}
    assert (events[0].data["approved_amount"], events[2].data["approved_amount"]) == (1_250, 0)
    parse_checkout(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("account.flagged", "account.flaged"), 'event 1 .*no event type is named "account.flaged"; there are account.cleared'),
        (("entities.customer", "entities.person"), 'event 1 .*entities: there is no "person"; there are customer'),
        (("occurred_at", "ocurred_at"), "malformed: .*ocurred_at|missing required field"),
        (('"customer"', '"custmer"'), 'event 1 .*: entities.customer: .*"custmer" not found'),
        (('"at"', '"flag"'), "never"),
        (('"at"', '"[1]"'), "event 1 .*: occurred_at: a moment is needed .* and this is INTEGER"),
        (('"flag"', '""'), "event 1 .*: data.flag: the expression is empty"),
        (("[[event]]", "[[event]]\nrows = 'others'"), 'event 1 .*there are no rows "others"; there are rows'),
        (("[[event]]", "[rows.rows]\nfiles = '*.parquet'\n[[event]]"), r'rows.rows: no file matches "\*.parquet"; files: rows.csv'),
        (("[[event]]", "[rows.rows]\nselect = 'SELECT nothing FROM source'\n[[event]]"), 'rows.rows: .*"nothing" not found'),
        (("[[event]]", "[rows.rows]\nread = {no_such_option = 1}\n[[event]]"), "rows.rows: "),
        (("[[event]]", "[event]"), "malformed"),
    ],
)  # fmt: skip
def test_a_malformed_mapping_names_the_entry(tmp_path, change, message):
    rows(tmp_path, "id,at,customer,flag", "1,2026-05-01 10:00:00,ann,address")
    if message == "never":  # text that is no moment is a fault of the row, not of the mapping
        assert "occurred_at" not in json.loads(mapped(tmp_path, FLAG.replace(*change))[0])
        return
    with pytest.raises(MappingError, match=message):
        mapped(tmp_path, FLAG.replace(*change))


def test_a_mapping_that_makes_nothing_is_refused():
    with pytest.raises(MappingError, match="makes nothing"):
        read_mapping("", DEFINITIONS)


def test_a_mapping_reads_no_other_file(tmp_path):
    rows(tmp_path, "id,at,customer,flag", "1,2026-05-01 10:00:00,ann,address")
    (tmp_path / "elsewhere").mkdir()
    secret = tmp_path.parent / "secret.csv"
    secret.write_text("a\n1\n")
    select = f"[rows.rows]\nselect = \"SELECT * FROM source, read_csv('{secret}')\"\n"
    with pytest.raises(MappingError, match=r"[Pp]ermission|disabled"):
        mapped(tmp_path, select + FLAG, "rows.csv")


def test_a_file_of_an_unknown_format_is_refused(tmp_path):
    rows(tmp_path, "x", name="rows.xlsx")
    with pytest.raises(
        MappingError, match=r"rows\.xlsx: the format is unknown; files end in \.parquet, \.csv"
    ):
        mapped(tmp_path, FLAG)


SHIPPED = [*ROOT.glob("demo/mappings/*.toml"), ROOT / "benchmarks/fraud_handbook/mapping.toml"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_shipped_mappings_fit_the_declared_events(path):
    assert read_mapping(path.read_text("utf-8"), DEFINITIONS).events
