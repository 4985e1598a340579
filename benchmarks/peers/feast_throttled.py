"""Result of Feast's DynamoDB reader for throttled keys. Run with `pip install "feast[aws]==0.67.0"`.

A server on this machine answers every BatchGetItem as DynamoDB does under a throttle: no item, all keys in
`UnprocessedKeys`. It prints what the reader answers for the customer, and how often it asked.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from importlib.metadata import version

ASKED: list[str] = []


class Throttling(BaseHTTPRequestHandler):
    """Processes nothing."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ASKED.append(self.headers["X-Amz-Target"])
        tables = request["RequestItems"]
        answer = json.dumps({"Responses": {name: [] for name in tables}, "UnprocessedKeys": tables}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Silence: the result is what is printed."""


def main() -> None:
    """Read one customer while everything is throttled."""
    feast = import_module("feast")
    store = import_module("feast.infra.online_stores.dynamodb").DynamoDBOnlineStore()
    keys = import_module("feast.protos.feast.types.EntityKey_pb2")
    values = import_module("feast.protos.feast.types.Value_pb2")
    server = HTTPServer(("127.0.0.1", 0), Throttling)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    config = feast.RepoConfig(
        project="peers",
        provider="aws",
        registry="unused",
        entity_key_serialization_version=3,
        online_store={
            "type": "dynamodb",
            "region": "us-east-1",
            "endpoint_url": f"http://127.0.0.1:{server.server_port}",
        },
    )
    customer = feast.Entity(name="customer", value_type=feast.ValueType.STRING)
    view = feast.FeatureView(
        name="payments",
        entities=[customer],
        source=feast.FileSource(name="payments", path="payments.parquet", timestamp_field="at"),
    )
    key = keys.EntityKey(join_keys=["customer"], entity_values=[values.Value(string_val="ann")])
    answer = store.online_read(config, view, [key])
    sys.stdout.write(f"feast {version('feast')} answers {answer} after {len(ASKED)} call(s)\n")


if __name__ == "__main__":
    main()
