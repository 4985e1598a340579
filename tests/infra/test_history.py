"""Every stream is read from its oldest record on, with partial failures, a maximum age and alarms."""

import json

import pyarrow as pa
import pytest

from candor.contracts import HISTORY, PLATFORM
from candor.edge.bus import SOURCE
from candor.store import layout
from history.archive.commits import COMMITS_PREFIX
from history.archive.tables import TABLES

DAY_S = 86_400
"""Retention of a table's stream."""


def _mappings(assembly):
    """(Table, function's logical id) → properties of the mapping."""
    mappings = {}
    for key, mapping in assembly.resources("AWS::Lambda::EventSourceMapping").items():
        properties = mapping["Properties"]
        if key.startswith("history/") and "StartingPosition" in properties:
            table = assembly.plain(properties["EventSourceArn"]).strip("<>").removesuffix(".StreamArn")[:-8]
            mappings[table, properties["FunctionName"]["Ref"][:-8]] = properties
    return mappings


def test_each_stream_has_the_function_that_reads_it(assembly):
    assert set(_mappings(assembly)) == {
        ("Features", "LogCommits"),
        ("SynchronousFeatures", "LogCommits"),
        ("Decisions", "PublishDecisions"),
        ("Decisions", "ScoreShadows"),
    }


def test_no_table_has_a_stream_that_nobody_reads(assembly):
    tables = assembly.resources("AWS::DynamoDB::Table").items()
    streaming = {key[8:-8] for key, table in tables if "StreamSpecification" in table["Properties"]}
    assert streaming == {table for table, _ in _mappings(assembly)}


def test_a_record_is_tried_again_in_part_and_given_up_long_before_the_stream_forgets_it(assembly):
    for properties in _mappings(assembly).values():
        assert properties["StartingPosition"] == "TRIM_HORIZON"
        assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert properties["BisectBatchOnFunctionError"] is True
        assert properties["MaximumRecordAgeInSeconds"] == DAY_S // 2
        assert "MaximumRetryAttempts" not in properties
        assert properties["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0].startswith(
            "StreamsDlq"
        )


@pytest.mark.parametrize(
    ("table", "pattern"),
    [
        ("Features", {"dynamodb": {"NewImage": {layout.NUMBER: {"N": [{"exists": True}]}}}}),
        ("SynchronousFeatures", {"dynamodb": {"NewImage": {layout.NUMBER: {"N": [{"exists": True}]}}}}),
        ("Decisions", {"eventName": ["INSERT"]}),
    ],
)
def test_what_is_neither_commit_nor_decision_invokes_nobody(assembly, table, pattern):
    followed = [properties for (followed, _), properties in _mappings(assembly).items() if followed == table]
    assert followed
    for properties in followed:
        [chosen] = properties["FilterCriteria"]["Filters"]
        assert json.loads(chosen["Pattern"]) == pattern


def test_an_alarm_speaks_hours_before_a_record_is_given_up(assembly):
    watched = {}
    for alarm in assembly.resources("AWS::CloudWatch::Alarm").values():
        properties = alarm["Properties"]
        if properties["MetricName"] == "IteratorAge":
            assert properties["AlarmActions"]
            watched[assembly.plain(properties["Dimensions"][0]["Value"]).strip("<>")[:-8]] = properties
    assert set(watched) == {"LogCommits", "PublishDecisions", "ScoreShadows"}
    for properties in watched.values():
        assert (properties["Statistic"], properties["ComparisonOperator"]) == (
            "Maximum",
            "GreaterThanOrEqualToThreshold",
        )
        patience_s = properties["Threshold"] / 1000 + properties["Period"] * properties["EvaluationPeriods"]
        assert patience_s * 4 < DAY_S // 2


def test_each_delivery_stream_has_an_alarm_on_its_age(assembly):
    ages = [
        assembly.plain(alarm["Properties"]["Dimensions"][0]["Value"])
        for alarm in assembly.resources("AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["MetricName"] == "DeliveryToS3.DataFreshness"
    ]
    assert len(set(ages)) == len(assembly.resources("AWS::KinesisFirehose::DeliveryStream")) == 4


def test_code_and_templates_name_the_same_places(assembly):
    prefixes = {
        stream["Properties"]["ExtendedS3DestinationConfiguration"]["Prefix"]
        for stream in assembly.resources("AWS::KinesisFirehose::DeliveryStream").values()
    }
    assert COMMITS_PREFIX in prefixes
    for rule in assembly.resources("AWS::Events::Rule").values():
        assert rule["Properties"]["EventPattern"] == {"source": [SOURCE, PLATFORM, HISTORY]}


def _glue_type(kind) -> str:
    """A column's type in Glue's notation."""
    if pa.types.is_map(kind):
        return f"map<{_glue_type(kind.key_type)},{_glue_type(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"array<{_glue_type(kind.value_type)}>"
    plain = {
        "string": "string",
        "timestamp[ms]": "timestamp",
        "int64": "bigint",
        "bool": "boolean",
        "double": "double",
    }
    return plain[str(kind)]


def test_glue_knows_the_tables_as_they_are_written(assembly):
    tables = {
        table["Properties"]["TableInput"]["Name"]: table
        for table in assembly.resources("AWS::Glue::Table").values()
    }
    assert set(tables) == {table.name for table in TABLES}
    for table in TABLES:
        table_input = tables[table.name]["Properties"]["TableInput"]
        columns = [(column["Name"], column["Type"]) for column in table_input["StorageDescriptor"]["Columns"]]
        assert columns == [(field.name, _glue_type(field.type)) for field in table.schema]
        marked = {
            column["Name"]
            for column in table_input["StorageDescriptor"]["Columns"]
            if column.get("Comment") == "holds tokens"
        }
        assert marked == set(table.tokens)
        place = assembly.plain(table_input["StorageDescriptor"]["Location"])
        assert place.endswith(f"/{table.table_prefix}")
        assert assembly.plain(table_input["Parameters"]["storage.location.template"]) == place + "day=${day}/"
        assert [key["Name"] for key in table_input["PartitionKeys"]] == ["day"]


def test_questions_to_the_archive_are_bounded_and_encrypted(assembly):
    [group] = assembly.resources("AWS::Athena::WorkGroup").values()
    settings = group["Properties"]["WorkGroupConfiguration"]
    assert settings["EnforceWorkGroupConfiguration"]
    assert settings["BytesScannedCutoffPerQuery"] == 100 * 10**9
    assert settings["ResultConfiguration"]["EncryptionConfiguration"] == {"EncryptionOption": "SSE_S3"}
    queries = [query["Properties"] for query in assembly.resources("AWS::Athena::NamedQuery").values()]
    assert len(queries) == 3
    assert {query["WorkGroup"] for query in queries} == {group["Properties"]["Name"]}
