"""Deletion of expired items: the engine accepts a table's TTL attribute and deletes nothing."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

_INTERVAL_S = 300.0

log = logging.getLogger(__name__)


class ExpirySweep:
    """Deletes expired items every five minutes (AWS: within days). `client` is a DynamoDB client."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="expiry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_INTERVAL_S):
            try:
                self.sweep(int(time.time()))
            except Exception:  # the next sweep may succeed, and nothing else depends on this one
                log.exception("expired items could not be deleted")

    def sweep(self, now_s: int) -> int:
        """Delete items that expired before `now_s`; returns their number. An item renewed meanwhile stays."""
        deleted = 0
        for table in self._client.list_tables()["TableNames"]:
            described = self._client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
            if described.get("TimeToLiveStatus") in ("ENABLED", "ENABLING"):
                deleted += self._sweep(table, described["AttributeName"], now_s)
        return deleted

    def _sweep(self, table: str, attribute: str, now_s: int) -> int:
        keys = [
            k["AttributeName"] for k in self._client.describe_table(TableName=table)["Table"]["KeySchema"]
        ]
        names = {"#ttl": attribute, **{f"#k{i}": key for i, key in enumerate(keys)}}
        expired = {
            "ExpressionAttributeNames": {"#ttl": attribute},
            "ExpressionAttributeValues": {":now": {"N": str(now_s)}, ":zero": {"N": "0"}},
        }
        pages = self._client.get_paginator("scan").paginate(
            TableName=table,
            FilterExpression="#ttl > :zero AND #ttl < :now",
            ProjectionExpression=", ".join(name for name in names if name != "#ttl"),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=expired["ExpressionAttributeValues"],
        )
        count = 0
        for page in pages:
            for key in page["Items"]:
                count += self._delete(table, key, expired)
        return count

    def _delete(self, table: str, key: dict[str, Any], expired: dict[str, Any]) -> int:
        try:
            self._client.delete_item(
                TableName=table, Key=key, ConditionExpression="#ttl > :zero AND #ttl < :now", **expired
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return 0
        return 1
