"""Queues: encrypted, TLS only."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs
from constructs import Construct

MAX_RECEIVES = 5


class HouseQueue(sqs.Queue):
    """A standard queue. With `dead_letters` a message moves there after MAX_RECEIVES receives."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        retention_days: int,
        visibility_timeout_s: int | None = None,
        dead_letters: sqs.IQueue | None = None,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            retention_period=cdk.Duration.days(retention_days),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            visibility_timeout=cdk.Duration.seconds(visibility_timeout_s) if visibility_timeout_s else None,
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters, max_receive_count=MAX_RECEIVES)
            if dead_letters
            else None,
        )
