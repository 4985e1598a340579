"""Standard queue semantics, and the state of a queue after its process has ended."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.aws.sqs import DurableQueue, UnknownReceipt
from local.state import Journal

ARN = "arn:aws:sqs:eu-west-1:123456789012:letters"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def queue(journal: Journal, name: str = "letters", **settings: object) -> DurableQueue:
    return DurableQueue(name, ARN, journal, **settings)  # type: ignore[arg-type]


def bodies(queue: DurableQueue, limit: int = 100) -> list[str]:
    return [message.body for message in queue.receive(limit)]


def test_messages_come_in_order_and_are_hidden_while_in_flight(journal: Journal) -> None:
    letters = queue(journal)
    letters.send(["a", "b", "c"])
    assert bodies(letters, 2) == ["a", "b"]
    assert bodies(letters) == ["c"]
    assert bodies(letters) == []
    assert letters.counts() == (0, 3, 0)


def test_a_message_returns_after_its_visibility_timeout(journal: Journal) -> None:
    letters = queue(journal, visibility_timeout_s=0.05)
    letters.send(["a"])
    (first,) = letters.receive(1)
    receipt = first.receipt
    (again,) = letters.receive(1, wait_s=2)
    assert (again.body, again.received) == ("a", 2)
    assert again.receipt != receipt


def test_deleted_messages_are_gone_also_for_the_next_process(journal: Journal) -> None:
    letters = queue(journal)
    letters.send(["a", "b", "c"])
    kept, dropped, _ = letters.receive(3)
    letters.delete([dropped.receipt])
    letters.delete([dropped.receipt])
    reloaded = queue(journal)
    messages = reloaded.receive(10)
    assert [message.body for message in messages] == ["a", "c"]
    assert [message.received for message in messages] == [2, 2]
    assert messages[0].id == kept.id


def test_a_message_received_too_often_goes_to_the_dead_letters(journal: Journal) -> None:
    dead = queue(journal, "dead")
    letters = queue(journal, max_receives=2, dead_letters=dead)
    letters.send(["poison", "fine"])
    for _ in range(2):
        for message in letters.receive(10):
            if message.body == "fine":
                letters.delete([message.receipt])
            else:
                letters.change_visibility(message.receipt, 0)
    assert bodies(letters) == []
    assert len(letters) == 0
    assert bodies(dead) == ["poison"]
    assert bodies(queue(journal, "dead")) == ["poison"]


def test_delay_and_retention(journal: Journal) -> None:
    letters = queue(journal, delay_s=30, retention_s=60)
    letters.send(["late"])
    assert bodies(letters) == []
    assert letters.counts() == (0, 0, 1)
    short = queue(journal, "short", retention_s=0)
    short.send(["gone"])
    assert bodies(short) == []
    assert len(short) == 0


def test_strange_receipts_are_refused(journal: Journal) -> None:
    letters = queue(journal)
    for receipt in ("", "other/1/x", "letters/x/y"):
        with pytest.raises(UnknownReceipt):
            letters.delete([receipt])


def test_waiting_receivers_and_waiting_for_idleness(journal: Journal) -> None:
    letters = queue(journal)
    began = time.monotonic()
    assert letters.receive(1, wait_s=0.05) == []
    assert time.monotonic() - began >= 0.05
    letters.send(["a"])
    assert not letters.wait_until_idle(0.01)
    [message] = letters.receive(1)
    assert not letters.wait_until_idle(0.01)
    letters.change_visibility(message.receipt, 30)
    assert not letters.wait_until_idle(0.01), "it was given back, and comes again"
    letters.delete([message.receipt])
    assert letters.wait_until_idle(0.01)
    letters.send(["later"], delay_s=30)
    assert letters.wait_until_idle(0.01), "its sender delayed it"
    letters.send(["a", "b"])
    letters.purge()
    assert bodies(queue(journal)) == []


def test_numbers_never_return(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "numbers.sqlite")
    first = journal.numbers(5)
    journal.close()
    journal = Journal(tmp_path / "numbers.sqlite")
    assert journal.numbers(1)[0] > first[-1]
    journal.close()
