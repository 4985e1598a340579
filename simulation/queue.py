"""Simulated standard SQS queue: at-least-once, unordered, with visibility timeout and dead-letter queue."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from candor.edge.messages import Message
from simulation.scheduler import Scheduler


@dataclass
class Stored:
    """A message in a queue; ``receipt`` is the number of its latest receive."""

    message: Message
    visible_at: int
    receives: int = 0
    receipt: int = 0


class SimulatedQueue:
    """The source queue and its dead letters."""

    def __init__(
        self,
        scheduler: Scheduler,
        on_visible: Callable[[], None],
        on_dead: Callable[[Message], None],
        visibility_ms: int,
        max_receives: int,
    ) -> None:
        self._scheduler = scheduler
        self._on_visible = on_visible
        self._on_dead = on_dead
        self._visibility_ms = visibility_ms
        self._max_receives = max_receives
        self._messages: dict[int, Stored] = {}
        self._numbers = 0
        self.dead: list[Message] = []

    def __len__(self) -> int:
        """Number of messages not deleted, in flight or not."""
        return len(self._messages)

    def send(self, message: Message, delay_ms: int = 0) -> None:
        """Accept a message for delivery after `delay_ms`."""
        self._numbers += 1
        self._messages[self._numbers] = Stored(message, self._scheduler.now + delay_ms)
        if delay_ms:
            self._scheduler.at(self._scheduler.now + delay_ms, self._on_visible)
        else:
            self._on_visible()

    def receive(self, at_most: int, double_delivery: float) -> list[tuple[tuple[int, int], Message]]:
        """Receive messages with receipts, in any order.

        With probability `double_delivery` a message stays visible.
        """
        rng, now = self._scheduler.rng, self._scheduler.now
        visible = [number for number, stored in self._messages.items() if stored.visible_at <= now]
        rng.shuffle(visible)
        received = []
        for number in visible[:at_most]:
            stored = self._messages[number]
            if stored.receives >= self._max_receives:
                self.bury(self._messages.pop(number).message)
                continue
            stored.receives += 1
            self._numbers += 1
            stored.receipt = self._numbers
            if rng.random() >= double_delivery:
                self._hide(stored)
            received.append(((number, stored.receipt), stored.message))
        return received

    def _hide(self, stored: Stored) -> None:
        stored.visible_at = self._scheduler.now + self._visibility_ms
        self._scheduler.at(stored.visible_at, self._on_visible)

    def delete(self, receipt: tuple[int, int]) -> None:
        """Acknowledge a message.

        SQS does not say whether an outdated receipt counts; here it does not.
        """
        number, issued = receipt
        if number in self._messages and self._messages[number].receipt == issued:
            del self._messages[number]

    def bury(self, message: Message) -> None:
        """Add a dead letter."""
        self.dead.append(message)
        self._on_dead(message)

    def redrive(self, kept: Container[str] = ()) -> int:
        """Redrive the dead letters except those with a kept id; return how many."""
        letters, self.dead = self.dead, [letter for letter in self.dead if letter.id in kept]
        sent = [letter for letter in letters if letter.id not in kept]
        for message in sent:
            self.send(message)
        return len(sent)

    @property
    def has_visible(self) -> bool:
        """True if a receive would return a message."""
        return any(stored.visible_at <= self._scheduler.now for stored in self._messages.values())
