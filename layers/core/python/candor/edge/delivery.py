"""Paged sending to AWS batch APIs with partial failures: EventBridge's PutEvents, Firehose's PutRecordBatch."""

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
    """Send `items` in order, retrying those that fail; returns the items that failed in every attempt.

    `send` returns AWS's result entries of a page, one per item. A page holds at most `most` items, and at most `limit`
    bytes by `size`.
    """
    refused: list[T] = []
    for page in _pages(items, size, most, limit):
        waiting = page
        for _ in range(ATTEMPTS):
            results = send(waiting)
            waiting = [item for item, result in zip(waiting, results, strict=True) if "ErrorCode" in result]
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
