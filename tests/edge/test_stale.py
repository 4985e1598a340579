"""Queue of stale items: all messages are sent, in pages; errors for invalid ones do not repeat their content."""

from __future__ import annotations

import json
from typing import Any

import pytest

from candor.edge.delivery import ATTEMPTS
from candor.edge.stale import StaleItem, StaleQueue, parse_stale_item
from candor.errors import InvalidInput


class Sqs:
    """Refuses the messages of these keys so many times."""

    def __init__(self, **bad: int) -> None:
        self.bad = bad
        self.calls: list[list[dict[str, Any]]] = []
        self.held: list[str] = []

    def __call__(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's own names
        assert QueueUrl == "url"
        self.calls.append(Entries)
        failed = []
        for entry in Entries:
            key = json.loads(entry["MessageBody"])["key"]
            if self.bad.get(key, 0) > 0:
                self.bad[key] -= 1
                failed.append({"Id": entry["Id"], "Code": "Throttled", "SenderFault": False})
            else:
                self.held.append(key)
        return {"Successful": [], "Failed": failed} if failed else {"Successful": []}


def items(count: int) -> list[StaleItem]:
    return [StaleItem(f"k{number}", number) for number in range(count)]


def test_ten_are_sent_at_a_time_with_their_delay():
    sqs = Sqs()
    assert StaleQueue(sqs, "url").send(items(23), delay_s=90) == 0
    assert [len(call) for call in sqs.calls] == [10, 10, 3]
    assert {entry["DelaySeconds"] for call in sqs.calls for entry in call} == {90}
    assert sqs.held == [f"k{number}" for number in range(23)]
    sent = parse_stale_item(sqs.calls[2][0]["MessageBody"].encode())
    assert sent == StaleItem("k20", 20)


def test_nothing_is_sent_for_nothing():
    sqs = Sqs()
    StaleQueue(sqs, "url").send([])
    assert sqs.calls == []


def test_what_was_refused_is_sent_again_alone():
    sqs = Sqs(k1=1, k3=ATTEMPTS - 1)
    StaleQueue(sqs, "url").send(items(5))
    assert [len(call) for call in sqs.calls] == [5, 2, 1]
    assert sorted(sqs.held) == [f"k{number}" for number in range(5)]


def test_what_the_queue_goes_on_refusing_is_counted():
    assert StaleQueue(Sqs(k1=ATTEMPTS), "url").send(items(2)) == 1


@pytest.mark.parametrize("body", [b"", b"secret", b"{}", b'{"key": 7, "since": 1}', b"\xff", b"[" * 9_000])
def test_what_is_no_message_is_refused_without_its_content(body):
    with pytest.raises(InvalidInput) as refused:
        parse_stale_item(body)
    assert (refused.value.code, "secret" in str(refused.value)) == ("unreadable_message", False)
