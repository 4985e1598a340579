"""SQS' API on durable queues: moto's queue, backed by `DurableQueue`."""

from __future__ import annotations

from typing import Any

from moto.sqs import models
from moto.sqs.exceptions import ReceiptHandleIsInvalid

from local.aws.sqs import DurableQueue, QueueMessage, UnknownReceipt
from local.state import Journal


class MotoQueue(models.Queue):
    """A moto queue whose messages are in `store`."""

    def __init__(self, name: str, region: str, account_id: str, *, journal: Journal, **kwargs: Any) -> None:
        self.store: DurableQueue | None = None
        super().__init__(name, region, account_id, **kwargs)
        self.store = DurableQueue(name, self.queue_arn, journal)
        self._configure(self.store)

    def _set_attributes(self, attributes: dict[str, Any], now: float | None = None) -> None:
        super()._set_attributes(attributes, now)
        if self.store is not None:
            self._configure(self.store)

    def _configure(self, store: DurableQueue) -> None:
        settings: Any = self
        store.visibility_timeout_s = settings.visibility_timeout
        store.delay_s = settings.delay_seconds
        store.retention_s = settings.message_retention_period
        policy = settings.redrive_policy
        store.max_receives = policy["maxReceiveCount"] if policy else None
        target = self.dead_letter_queue
        store.dead_letters = target.store if isinstance(target, MotoQueue) else None

    @property
    def _store(self) -> DurableQueue:
        assert self.store is not None
        return self.store

    def add_message(self, message: models.Message) -> None:
        delay = (
            (message.delayed_until - int(str(message.sent_timestamp))) / 1000
            if message.delayed_until
            else 0.0
        )
        stored = self._store.send([message.body], message.message_attributes, delay)
        message.id = stored[0].id

    def delete_message(self, receipt_handle: str) -> None:
        try:
            self._store.delete([receipt_handle])
        except UnknownReceipt:
            raise ReceiptHandleIsInvalid from None

    @property
    def approximate_number_of_messages(self) -> int:
        return self._store.counts()[0] if self.store is not None else 0

    @property
    def approximate_number_of_messages_not_visible(self) -> int:
        return self._store.counts()[1] if self.store is not None else 0

    @property
    def approximate_number_of_messages_delayed(self) -> int:
        return self._store.counts()[2] if self.store is not None else 0


def as_moto(message: QueueMessage, attribute_names: list[str]) -> models.Message:
    """A received message as a moto message."""
    moto_message = models.Message(message.id, message.body)
    moto_message.message_attributes = dict(message.attributes)
    models._filter_message_attributes(moto_message, attribute_names)  # noqa: SLF001 - moto's own filter, see moto_patches.py
    moto_message.sent_timestamp = message.sent_at  # type: ignore[assignment] # moto types it None at first
    moto_message.approximate_first_receive_timestamp = message.first_received_at
    moto_message.approximate_receive_count = message.received
    moto_message.receipt_handle = message.receipt
    return moto_message
