"""A delivery stream into a bucket on moto, its objects, and the records of DynamoDB's streams."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import boto3

BUCKET = "archive-test"
_STREAMS = "https://streams.dynamodb.us-east-1.amazonaws.com"
DELIMITER = {
    "Enabled": True,
    "Processors": [{"Type": "AppendDelimiterToRecord", "Parameters": []}],
}


def create_stream(name: str) -> None:
    """A delivery stream configured as in the stacks, writing below its own name."""
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    boto3.client("firehose").create_delivery_stream(
        DeliveryStreamName=name,
        ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/firehose",
            "BucketARN": f"arn:aws:s3:::{BUCKET}",
            "Prefix": f"{name}/",
            "ProcessingConfiguration": DELIMITER,
        },
    )


def arrived(name: str) -> list[Any]:
    """Every line that the stream wrote since the last call."""
    s3 = boto3.client("s3")
    lines = []
    for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/").get("Contents", ()):
        body = s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        lines += [json.loads(line) for line in body.decode().splitlines()]
        s3.delete_object(Bucket=BUCKET, Key=item["Key"])
    return lines


def refusing(firehose: Any, monkeypatch: Any, times: int) -> list[int]:
    """Make the stream fail a number of calls as a whole; returns the sizes of the calls."""
    real, sizes = firehose.put_record_batch, []

    def put_record_batch(*, DeliveryStreamName: str, Records: list[Any]) -> Any:  # noqa: N803 - boto3's own names
        sizes.append(len(Records))
        if len(sizes) > times:
            return real(DeliveryStreamName=DeliveryStreamName, Records=Records)
        refused = {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
        return {"FailedPutCount": len(Records), "RequestResponses": [refused] * len(Records)}

    monkeypatch.setattr(firehose, "put_record_batch", put_record_batch)
    return sizes


def records_of(arn: str) -> list[dict[str, Any]]:
    """All records of a table's stream, as Lambda hands them over."""
    # moto takes the service for DynamoDB itself unless the address is given.
    streams = boto3.client("dynamodbstreams", endpoint_url=_STREAMS)
    [shard] = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    where = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    answer = streams.get_records(ShardIterator=streams.get_shard_iterator(**where)["ShardIterator"])
    plain = json.loads(json.dumps(answer["Records"], default=_wire))
    return [{**record, "eventSourceARN": arn} for record in plain]


def _wire(value: Any) -> Any:
    return b64encode(value).decode() if isinstance(value, bytes) else value.timestamp()
