"""Worker of the queue of stale items: heals them, and re-sends those that wait for the archive as new messages.

A new message starts with a receive count of 0, so a late archive alone does not move it to the dead-letter queue
before `PATIENCE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from candor.clock import HOUR, SECOND, Clock
from candor.edge.messages import Message
from candor.edge.stale import StaleItem, StaleQueue, parse_stale_item
from candor.errors import InvalidInput
from history.healing.healer import HealingResult

PATIENCE: Final = 2 * HOUR
"""Longest time (ms) an item may wait for the archive before its message goes to the dead-letter queue.

An object delivered late into an hour already indexed is read after the next hour's pass at the latest.
"""


class Heals(Protocol):
    """Advances items by one step."""

    def heal(self, keys: Sequence[str]) -> Mapping[str, HealingResult]:
        """Return the result of each item, by key."""
        ...


@dataclass
class BatchOutcome:
    """Results of a batch.

    `failed`: messages to deliver again, with the cause. `healed` and `stale`: seconds since each item went stale.
    """

    failed: list[tuple[Message, str]] = field(default_factory=list)
    healed: list[float] = field(default_factory=list)
    stale: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class HealingWorker:
    """Processes batches. `archive_lag_s`: time until the archive holds a commit; `retry_s`: pause between attempts."""

    healer: Heals
    queue: StaleQueue
    clock: Clock
    archive_lag_s: int
    retry_s: int

    def work(self, messages: Sequence[Message]) -> BatchOutcome:
        """Heal the items that can be healed, and re-send those that wait."""
        outcome = BatchOutcome()
        waiting: dict[str, tuple[Message, StaleItem]] = {}
        for message in messages:
            try:
                item = parse_stale_item(message.body)
            except InvalidInput as reason:
                outcome.failed.append((message, reason.code))
                continue
            known = waiting.get(item.key)
            if known is None or item.since < known[1].since:
                waiting[item.key] = message, item
        results = self.healer.heal(list(waiting))
        for key, (message, item) in waiting.items():
            self._settle(message, item, results[key], outcome)
        return outcome

    def _settle(
        self, message: Message, item: StaleItem, result: HealingResult, outcome: BatchOutcome
    ) -> None:
        age_ms = self.clock.now_ms() - item.since
        if result.status == "healed":
            outcome.healed.append(age_ms / SECOND)
        elif result.status != "exact":
            outcome.stale.append(age_ms / SECOND)
            if not self._queued_again(item, result, age_ms):
                outcome.failed.append((message, result.cause or result.status))

    def _queued_again(self, item: StaleItem, result: HealingResult, age_ms: int) -> bool:
        """False for an item left to the dead-letter queue, or refused by the queue."""
        if result.status == "begun":
            return self.queue.send([item], self.archive_lag_s) == 0
        return result.status == "waiting" and age_ms < PATIENCE and self.queue.send([item], self.retry_s) == 0
