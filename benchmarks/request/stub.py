"""Stub of AWS for every row: items, bundle and secret over plain HTTP with keep-alive, the same bytes for all.

`python -m benchmarks.request.stub` prints its port, and serves until it is ended. DynamoDB's answers carry a
request id and a CRC-32, as DynamoDB's do. Conditions are ignored: every id that is written is new. Items that
PutItem and BatchWriteItem write to a table created by `CreateTable` are kept, so that a peer can fill its own
tables.
"""

from __future__ import annotations

import socket
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_CHUNK = 256 * 1024
_Item = Mapping[str, Any]
_DROPPED = "decisions"
"""Table that exists from the start and keeps nothing."""


class Stub:
    """State of the stub: tables of items by key, objects by path, one secret."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.items: dict[str, dict[str, msgspec.Raw]] = {}
        self.objects: dict[str, bytes] = {}

    def answer(self, method: str, path: str, target: str, body: bytes) -> bytes:
        """Body of the response. Raises LookupError for unknown objects and operations."""
        if method == "PUT":
            self.objects[path] = body
            return b""
        if method == "GET":
            return self.objects[path]
        operation = target.rpartition(".")[2]
        request = msgspec.json.decode(body, type=dict[str, Any])
        handler = getattr(self, f"_{operation}", None)
        if handler is None:
            raise LookupError(operation)
        return msgspec.json.encode(handler(request))

    def _BatchGetItem(self, request: _Item) -> _Item:  # noqa: N802 - DynamoDB's name
        tables = request["RequestItems"]
        responses = {name: list(self._stored_items(name, wanted["Keys"])) for name, wanted in tables.items()}
        return {"Responses": responses, "UnprocessedKeys": {}}

    def _stored_items(self, table: str, keys: list[_Item]) -> Iterator[msgspec.Raw]:
        stored = self.items.get(table, {})
        for key in keys:
            ((kind,),) = (value.values() for value in key.values())
            if kind in stored:
                yield stored[kind]

    def _GetItem(self, request: _Item) -> _Item:  # noqa: N802 - as above
        return dict(zip(["Item"], self._stored_items(request["TableName"], [request["Key"]]), strict=False))

    def _PutItem(self, request: _Item) -> _Item:  # noqa: N802 - as above
        self._keep(request["TableName"], request["Item"])
        return {}

    def _BatchWriteItem(self, request: _Item) -> _Item:  # noqa: N802 - as above
        for table, writes in request["RequestItems"].items():
            for write in writes:
                self._keep(table, write["PutRequest"]["Item"])
        return {"UnprocessedItems": {}}

    def _keep(self, table: str, item: _Item) -> None:
        if table in self.keys:
            (value,) = item[self.keys[table]].values()
            self.items[table][value] = msgspec.Raw(msgspec.json.encode(item))

    def _TransactWriteItems(self, _request: _Item) -> _Item:  # noqa: N802 - as above
        return {}

    def _CreateTable(self, request: _Item) -> _Item:  # noqa: N802 - as above
        table = request["TableName"]
        self.keys[table] = request["KeySchema"][0]["AttributeName"]
        self.items[table] = {}
        return {"TableDescription": {"TableName": table, "TableStatus": "ACTIVE"}}

    def _DescribeTable(self, request: _Item) -> _Item:  # noqa: N802 - as above
        key = "pk" if request["TableName"] == _DROPPED else self.keys[request["TableName"]]
        schema = [{"AttributeName": key, "KeyType": "HASH"}]
        attributes = [{"AttributeName": key, "AttributeType": "S"}]
        return {
            "Table": {
                "TableName": request["TableName"],
                "TableStatus": "ACTIVE",
                "TableArn": f"arn:aws:dynamodb:us-east-1:123456789012:table/{request['TableName']}",
                "KeySchema": schema,
                "AttributeDefinitions": attributes,
            }
        }

    def _ListTagsOfResource(self, _request: _Item) -> _Item:  # noqa: N802 - as above
        return {"Tags": []}

    def _TagResource(self, _request: _Item) -> _Item:  # noqa: N802 - as above
        return {}

    def _GetSecretValue(self, _request: _Item) -> _Item:  # noqa: N802 - as above
        return {"SecretString": "a key for benchmarks alone"}


def main() -> None:
    """Serve each connection in a thread of its own."""
    stub = Stub()
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    while True:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(stub, accepted), daemon=True).start()


def _serve(stub: Stub, connection: socket.socket) -> None:
    held = bytearray()
    with connection:
        while True:
            while (end := held.find(b"\r\n\r\n")) < 0:
                if not (more := connection.recv(_CHUNK)):
                    return
                held += more
            first, *lines = held[:end].decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            if headers.get("expect", "").lower() == "100-continue":
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            whole = end + 4 + int(headers.get("content-length", "0"))
            while len(held) < whole:
                if not (more := connection.recv(_CHUNK)):
                    return
                held += more
            body = bytes(held[end + 4 : whole])
            del held[:whole]
            method, path, _ = first.split(" ", 2)
            connection.sendall(_response(stub, method, path, headers.get("x-amz-target", ""), body))


def _response(stub: Stub, method: str, path: str, target: str, body: bytes) -> bytes:
    status = "200 OK"
    try:
        body_sent = stub.answer(method, path.partition("?")[0], target, body)
    except LookupError as error:
        sys.stderr.write(f"the stub has no {error}\n")
        status, body_sent = "404 Not Found", b'{"__type":"ResourceNotFoundException"}'
    head = (
        f"HTTP/1.1 {status}\r\nServer: Server\r\nContent-Type: application/x-amz-json-1.0\r\n"
        f"Content-Length: {len(body_sent)}\r\nConnection: keep-alive\r\n"
        "x-amzn-RequestId: 5D5Q2SV7M5EDPF2UKQ8AB1CJRVVV4KQNSO5AEMVJF66Q9ASUAAJG\r\n"
        f"x-amz-crc32: {zlib.crc32(body_sent)}\r\n\r\n"
    )
    return head.encode() + body_sent


if __name__ == "__main__":
    main()
