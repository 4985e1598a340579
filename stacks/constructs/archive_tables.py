"""The archive's tables for Athena: a Glue database with projected partitions, a bounded workgroup, saved queries."""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.stage import StageConstruct

TABLES_PREFIX: Final = "tables/"
RESULTS_PREFIX: Final = "athena/"
"""Prefix of Athena's query results, which expire after a week."""

SCAN_LIMIT_BYTES: Final = 100 * 10**9
"""Bytes that one query may read, which cost half a dollar."""

_PARQUET: Final = "org.apache.hadoop.hive.ql.io.parquet"

COLUMNS: Final[dict[str, dict[str, str]]] = {
    "events": {
        "event_id": "string",
        "type": "string",
        "occurred_at": "timestamp",
        "voided_at": "timestamp",
        "taken_at": "timestamp",
        "entities": "map<string,string>",
        "data": "string",
        "refused": "string",
        "known_at": "timestamp",
    },
    "decisions": {
        "id": "string",
        "merchant_id": "string",
        "livemode": "boolean",
        "q": "timestamp",
        "decided_at": "timestamp",
        "checkout_id": "string",
        "total": "bigint",
        "currency": "string",
        "outcome": "string",
        "component": "string",
        "reasons": "array<string>",
        "score": "double",
        "cutoff": "double",
        "propensity": "double",
        "degraded": "boolean",
        "bundle": "string",
        "policy": "string",
        "definition_hash": "string",
        "record": "string",
    },
    "commits": {
        "view": "string",
        "key": "string",
        "birth": "bigint",
        "n": "bigint",
        "applied_at": "timestamp",
        "event_ids": "array<string>",
        "filled_before": "timestamp",
        "rebuilt": "boolean",
        "left_out": "boolean",
    },
}
"""The columns that `history/archive/tables.py` writes; a test compares the two."""

TOKEN_COLUMNS: Final = frozenset(
    {"events.entities", "events.data", "events.refused", "decisions.record", "commits.key"}
)
"""Columns that hold tokens of persons and devices, as `history/archive/tables.py` declares; a test compares the two.

Athena shows them as they are, so the columns' comments say so. `candor sql` hides them.
"""

QUERIES: Final = {
    "Approval rate by day": (
        "SELECT day, count(*) AS decisions, avg(CASE WHEN outcome = 'approved' THEN 1.0 ELSE 0.0 END) AS approval_rate\n"
        "FROM decisions WHERE day >= date_format(current_date - INTERVAL '30' DAY, '%Y-%m-%d') GROUP BY day ORDER BY day"
    ),
    "Declines by reason": (
        "SELECT reason, count(*) AS declines FROM decisions CROSS JOIN UNNEST(reasons) AS told (reason)\n"
        "WHERE outcome = 'declined' GROUP BY reason ORDER BY declines DESC"
    ),
    "Events by type and day": (
        "SELECT day, coalesce(type, 'refused') AS type, count(*) AS events FROM events GROUP BY 1, 2 ORDER BY 1, 2"
    ),
}


class ArchiveTables(StageConstruct):
    """Database `candor_<stage>` and workgroup `candor-<stage>` over the archive's bucket."""

    def __init__(self, scope: Construct, construct_id: str, *, bucket: s3.IBucket) -> None:
        super().__init__(scope, construct_id)
        stage = self._settings.stage
        self._bucket = bucket
        self.database = f"candor_{stage}"
        database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=cdk.Aws.ACCOUNT_ID,
            database_input=glue.CfnDatabase.DatabaseInputProperty(name=self.database),
        )
        for name, columns in COLUMNS.items():
            self._table(name, columns).add_resource_dependency(database)
        workgroup = self._workgroup(f"candor-{stage}")
        for number, (name, query) in enumerate(QUERIES.items()):
            saved = athena.CfnNamedQuery(
                self,
                f"Query{number}",
                name=name,
                database=self.database,
                query_string=query,
                work_group=workgroup.name,
            )
            saved.add_resource_dependency(workgroup)

    def _table(self, name: str, columns: dict[str, str]) -> glue.CfnTable:
        """A table with partition projection by day: no partition has to be added, not even a late one."""
        location = f"s3://{self._bucket.bucket_name}/{TABLES_PREFIX}{name}/"
        column = glue.CfnTable.ColumnProperty
        return glue.CfnTable(
            self,
            name.capitalize(),
            catalog_id=cdk.Aws.ACCOUNT_ID,
            database_name=self.database,
            table_input=glue.CfnTable.TableInputProperty(
                name=name,
                table_type="EXTERNAL_TABLE",
                partition_keys=[column(name="day", type="string")],
                parameters={
                    "projection.enabled": "true",
                    "projection.day.type": "date",
                    "projection.day.format": "yyyy-MM-dd",
                    "projection.day.range": "2020-01-01,NOW+1DAYS",
                    "storage.location.template": f"{location}day=${{day}}/",
                },
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    location=location,
                    columns=[
                        column(
                            name=key,
                            type=kind,
                            comment="holds tokens" if f"{name}.{key}" in TOKEN_COLUMNS else None,
                        )
                        for key, kind in columns.items()
                    ],
                    input_format=f"{_PARQUET}.MapredParquetInputFormat",
                    output_format=f"{_PARQUET}.MapredParquetOutputFormat",
                    serde_info=glue.CfnTable.SerdeInfoProperty(
                        serialization_library=f"{_PARQUET}.serde.ParquetHiveSerDe"
                    ),
                ),
            ),
        )

    def _workgroup(self, name: str) -> athena.CfnWorkGroup:
        group = athena.CfnWorkGroup
        return group(
            self,
            "Workgroup",
            name=name,
            description="Questions to the archive: bounded, encrypted, answers kept for a week",
            recursive_delete_option=True,
            work_group_configuration=group.WorkGroupConfigurationProperty(
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                bytes_scanned_cutoff_per_query=SCAN_LIMIT_BYTES,
                result_configuration=group.ResultConfigurationProperty(
                    output_location=f"s3://{self._bucket.bucket_name}/{RESULTS_PREFIX}",
                    encryption_configuration=group.EncryptionConfigurationProperty(
                        encryption_option="SSE_S3"
                    ),
                ),
            ),
        )
