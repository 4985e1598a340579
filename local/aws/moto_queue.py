"""SQS' API on durable queues: moto's queue, backed by `DurableQueue`, and the tasks that moto does not have."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.sqs import models
from moto.sqs.exceptions import InvalidParameterValue, QueueDoesNotExist, ReceiptHandleIsInvalid, SQSException

from local.aws.message_moves import MessageMoves, MoveTask, TaskRunning, UnknownTask
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


class MoveResponses:
    """The three actions on message move tasks, as methods for moto's `SQSResponse`."""

    def __init__(self, moves: MessageMoves) -> None:
        self._moves = moves

    def start_message_move_task(self, response: Any) -> ActionResult:
        source = _queue_of(response, response._get_param("SourceArn"), "SourceArn")  # noqa: SLF001 - moto's accessor
        target_arn = response._get_param("DestinationArn")  # noqa: SLF001 - moto's accessor
        target = _queue_of(response, target_arn, "DestinationArn") if target_arn else None
        if not response.sqs_backend.list_dead_letter_source_queues(source.name):
            raise InvalidParameterValue("Source queue must be configured as a Dead Letter Queue.")
        rate = response._get_param("MaxNumberOfMessagesPerSecond")  # noqa: SLF001 - moto's accessor
        try:
            task = self._moves.start(source, target, rate)
        except TaskRunning:
            raise SQSException(
                "AWS.SimpleQueueService.UnsupportedOperation",
                "There is already a task running. Only one active task is allowed for a source queue arn at a given "
                "time.",
            ) from None
        return ActionResult({"TaskHandle": task.handle})

    def list_message_move_tasks(self, response: Any) -> ActionResult:
        source = _queue_of(response, response._get_param("SourceArn"), "SourceArn")  # noqa: SLF001
        most = response._get_param("MaxResults") or 1  # noqa: SLF001 - moto's accessor
        return ActionResult({"Results": [_description(task) for task in self._moves.tasks_of(source)[:most]]})

    def cancel_message_move_task(self, response: Any) -> ActionResult:
        try:
            task = self._moves.cancel(response._get_param("TaskHandle"))  # noqa: SLF001 - moto's accessor
        except UnknownTask:
            raise SQSException("ResourceNotFoundException", "Task does not exist.") from None
        return ActionResult({"ApproximateNumberOfMessagesMoved": task.moved})


def _queue_of(response: Any, arn: str, parameter: str) -> DurableQueue:
    try:
        queue = response.sqs_backend.get_queue(str(arn).rpartition(":")[2])
    except QueueDoesNotExist:
        raise SQSException(
            "ResourceNotFoundException",
            f"The resource that you specified for the {parameter} parameter doesn't exist.",
        ) from None
    store: DurableQueue = queue.store
    return store


def _description(task: MoveTask) -> dict[str, Any]:
    """A task as ListMessageMoveTasks shows it."""
    optional = {
        "TaskHandle": task.handle if task.status == "RUNNING" else None,
        "DestinationArn": None if task.destination is None else task.destination.arn,
        "MaxNumberOfMessagesPerSecond": task.per_second,
        "FailureReason": task.failure,
    }
    return {
        "Status": task.status,
        "SourceArn": task.source.arn,
        "ApproximateNumberOfMessagesMoved": task.moved,
        "ApproximateNumberOfMessagesToMove": task.to_move,
        "StartedTimestamp": task.started_at,
    } | {name: value for name, value in optional.items() if value is not None}
