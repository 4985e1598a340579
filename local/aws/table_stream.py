"""A table's stream, read through DynamoDB's API; its records in the form that Lambda passes to a function."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from local.errors import LocalError

Record = dict[str, Any]

_TARGET = "DynamoDBStreams_20120810"
_TIMEOUT_S = 30
_BY_EXPIRY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


class TableStream:
    """Reads one stream, which has one shard in both engines. Not thread-safe.

    `arn` names the stream in this account, `engine_arn` in the engine at `url`; `ttl` is the table's TTL attribute.
    It speaks plain HTTP, because a client's parsing would dominate the cost.
    """

    def __init__(self, url: str, engine_arn: str, arn: str, ttl: str | None) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self.arn, self.engine_arn, self.shard = arn, engine_arn, ""
        self._region, self._ttl = arn.split(":")[3], ttl
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=_TIMEOUT_S)
        self._iterator = ""

    def seek(self, after: str | None) -> None:
        """Position after a sequence number; at the oldest record when it is None."""
        description = self._call("DescribeStream", StreamArn=self.engine_arn)["StreamDescription"]
        [shard] = description["Shards"]
        self.shard = shard["ShardId"]
        where = {"StreamArn": self.engine_arn, "ShardId": self.shard}
        if after is None:
            where |= {"ShardIteratorType": "TRIM_HORIZON"}
        else:
            where |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        self._iterator = self._call("GetShardIterator", **where)["ShardIterator"]

    def read(self, limit: int) -> list[Record]:
        """The next records, in order; empty at the stream's end."""
        response = self._call("GetRecords", ShardIterator=self._iterator, Limit=limit)
        self._iterator = response["NextShardIterator"]
        return [self._as_lambda_record(record) for record in response["Records"]]

    def _as_lambda_record(self, record: Record) -> Record:
        record |= {"eventSourceARN": self.arn, "awsRegion": self._region}
        if record["eventName"] == "REMOVE" and self._expired(record["dynamodb"]):
            record["userIdentity"] = _BY_EXPIRY
        return record

    def _expired(self, change: Record) -> bool:
        """Whether TTL removed the item: the engine does not say, so an expired item counts as removed by TTL."""
        expiry = change.get("OldImage", {}).get(self._ttl, {}).get("N")
        return expiry is not None and 0 < float(expiry) <= change["ApproximateCreationDateTime"]

    def _call(self, operation: str, **parameters: object) -> Any:
        scope = f"local/20260101/{self._region}/dynamodb/aws4_request"
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"{_TARGET}.{operation}",
            "X-Amz-Date": "20260101T000000Z",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        }
        try:
            self._connection.request("POST", "/", json.dumps(parameters), headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next call opens another
            raise
        if response.status != http.client.OK:
            raise LocalError(
                f"{operation} of {self.arn} failed with status {response.status}: {body[:300]!r}"
            )
        return json.loads(body)

    def close(self) -> None:
        self._connection.close()
