"""Contents of a running system: feature state, decisions, archive, queues."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from candor.clock import DAY, HOUR, MINUTE
from candor.features.state import ViewState, id_hash
from lender import DEFINITIONS

VIEWS = {view.name: view for view in DEFINITIONS.views}


@dataclass(frozen=True)
class Contents:
    """`features` by item key, `answers` and `records` by decision id, `archive`: every copy of every event, by id."""

    features: dict[str, dict[str, Any]]
    answers: dict[str, bytes]
    records: dict[str, dict[str, Any]]
    archive: dict[str, list[dict[str, Any]]]
    queued: dict[str, int]


class Account:
    """Clients of the account that a running system serves."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._endpoints = json.loads((state / "endpoints.json").read_text())

    def client(self, service: str) -> Any:
        kind = "_DYNAMODB" if service == "dynamodb" else ""
        return boto3.client(
            service,
            region_name=self._endpoints["AWS_REGION"],
            endpoint_url=self._endpoints[f"AWS_ENDPOINT_URL{kind}"],
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def items(self, table: str) -> list[dict[str, Any]]:
        """Every item of the tables whose names contain `table`: `features` are in two."""
        tables = self.client("dynamodb")
        names = [name for name in tables.list_tables()["TableNames"] if table in name.lower()]
        assert names
        scan = tables.get_paginator("scan")
        pages = (page for name in names for page in scan.paginate(TableName=name, ConsistentRead=True))
        return [item for page in pages for item in page["Items"]]

    def queues(self) -> dict[str, int]:
        """Number of messages by queue: visible, in flight and delayed."""
        sqs, counted = self.client("sqs"), {}
        for url in sqs.list_queues()["QueueUrls"]:
            numbers = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            counted[url.rpartition("/")[2]] = sum(
                int(text) for name, text in numbers.items() if name.startswith("ApproximateNumberOf")
            )
        return counted

    def archived(self) -> Iterator[dict[str, Any]]:
        """Every archived copy of every event."""
        for file in sorted(self._state.glob("s3/*archive*/events/**/*.gz")):
            for line in gzip.decompress(file.read_bytes()).splitlines():
                yield json.loads(line)["event"]["detail"]

    def contents(self) -> Contents:
        archive = defaultdict(list)
        for event in self.archived():
            archive[event["event_id"]].append(event)
        decisions = self.items("decisions")
        return Contents(
            features=folded(self.items("features")),
            answers={item["pk"]["S"]: bytes(item["a"]["B"]) for item in decisions},
            records={item["pk"]["S"]: json.loads(bytes(item["r"]["B"])) for item in decisions},
            archive=dict(archive),
            queued=self.queues(),
        )


def folded(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Content of each item, independent of batches: its state, and the ids of its events from ring and markers.

    Left out is what depends on the writing and not on the events: when each id, and the first, was applied, births and
    numbers of versions. An event too late for every window is dropped or applied depending on the order of arrival,
    without effect on any later moment: for views without a lifetime the values are compared instead.
    """
    known: dict[str, set[int]] = defaultdict(set)
    states: dict[str, ViewState] = {}
    for item in items:
        key = item["pk"]["S"]
        if key.startswith("marker#"):
            _, _, rest = key.partition("#")
            owner, _, event_id = rest.rpartition("#")
            known[owner].add(id_hash(event_id))
        else:
            states[key] = ViewState.decode(VIEWS[key.partition("@")[0]], bytes(item["b"]["B"]))
    assert known.keys() <= states.keys()
    return {
        key: {**_plain(state), "ids": known[key] | set(state.ring)}
        if state.plan.lifetime
        else _answers(state)
        for key, state in states.items()
    }


def _answers(state: ViewState) -> dict[str, Any]:
    """Values of the item at several moments after its last event."""
    moments = [state.watermark + later for later in (1, MINUTE, HOUR, DAY, 8 * DAY, 40 * DAY)]
    return {
        "watermark": state.watermark,
        "values": [[value.hex() for value in state.values(q)] for q in moments],
    }


def _plain(state: ViewState) -> dict[str, Any]:
    of_writing = {"plan", "ring", "since"}
    return {name: getattr(state, name) for name in state.__struct_fields__ if name not in of_writing}
