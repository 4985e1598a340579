"""Sending in pages to an AWS API that may refuse some of a page: EventBridge's PutEvents, Firehose's PutRecordBatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

ATTEMPTS = 3

T = TypeVar("T")


def deliver(
    send: Callable[[list[T]], Sequence[Mapping[str, Any]]],
    items: Sequence[T],
    size: Callable[[T], int],
    *,
    most: int,
    limit: int,
) -> list[T]:
    """Send `items` in order and again those that were refused; what was still refused at the last attempt.

    `send` answers a page, item by item, with AWS's result entries. A page holds at most `most` items of together at
    most `limit` bytes, as `size` measures one.
    """
    refused: list[T] = []
    for page in _pages(items, size, most, limit):
        waiting = page
        for _ in range(ATTEMPTS):
            answers = send(waiting)
            waiting = [item for item, answer in zip(waiting, answers, strict=True) if "ErrorCode" in answer]
            if not waiting:
                break
        refused += waiting
    return refused


def _pages(items: Sequence[T], size: Callable[[T], int], most: int, limit: int) -> Iterator[list[T]]:
    page: list[T] = []
    filled = 0
    for item in items:
        weight = size(item)
        if page and (len(page) == most or filled + weight > limit):
            yield page
            page, filled = [], 0
        page.append(item)
        filled += weight
    if page:
        yield page
