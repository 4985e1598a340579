"""moto's tables, called by one thread at a time: a transaction copies them all, which fails while another thread writes."""

from functools import wraps
from threading import RLock
from typing import Any

from moto.dynamodb.responses import DynamoHandler

_LOCK = RLock()


def serialize_calls() -> None:
    """Make every call to moto's DynamoDB wait for the one before."""
    call_action = DynamoHandler.call_action
    if getattr(call_action, "serialized", False):
        return

    @wraps(call_action)
    def alone(self: DynamoHandler) -> Any:
        with _LOCK:
            return call_action(self)

    alone.serialized = True
    DynamoHandler.call_action = alone
