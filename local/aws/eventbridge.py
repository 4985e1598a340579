"""EventBridge: PutEvents journals an event for every target of every matching rule before it returns."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.events.models import EventPattern

from local.aws.firehose import DeliveryStream
from local.aws.sqs import DurableQueue, QueueMessage
from local.state import Journal

_REQUIRED = ("Source", "DetailType", "Detail")
_ENTRY_LIMIT = 1 << 20
_VARIABLE = re.compile(r"<([^<>]*)>")
_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')
_EVENT, _INGESTION_TIME = "aws.events.event.json", "aws.events.event.ingestion-time"
_VARIABLES = {(_EVENT, False), (_INGESTION_TIME, False), (_INGESTION_TIME, True)}
"""Supported variables as (name, inside a string)."""

Envelope = dict[str, Any]


class InputTemplate:
    """An input template: JSON with EventBridge's predefined variables for the event and its ingestion time.

    The event is inserted unescaped; the time is quoted unless the template quotes it. Raises ValueError for other
    variables, and for an event inside a string.
    """

    def __init__(self, template: str) -> None:
        parts = _VARIABLE.split(template)
        self._texts = parts[::2]
        self._variables = [
            (parts[index], _within_quotes("".join(parts[:index]))) for index in range(1, len(parts), 2)
        ]
        for name, _ in set(self._variables) - _VARIABLES:
            raise ValueError(f"<{name}> is not supported there in an input template")

    def text(self, event: str, ingested_at: str) -> str:
        """The target's input for an event (JSON) that the bus ingested at `ingested_at` (RFC 3339)."""
        values = {
            (_EVENT, False): event,
            (_INGESTION_TIME, False): f'"{ingested_at}"',
            (_INGESTION_TIME, True): ingested_at,
        }
        filled = [*(values[variable] for variable in self._variables), ""]
        return "".join(text + value for text, value in zip(self._texts, filled, strict=True))


def _within_quotes(before: str) -> bool:
    """Whether `before` has an odd number of unescaped quotes."""
    return len(_QUOTE.findall(before)) % 2 == 1


@dataclass(frozen=True)
class Target:
    """One target of a rule: a queue or a delivery stream, and the input template of the event."""

    sink: DurableQueue | DeliveryStream
    template: InputTemplate | None = None

    def text(self, event: str, ingested_at: str) -> str:
        return event if self.template is None else self.template.text(event, ingested_at)


@dataclass(frozen=True)
class Rule:
    """A pattern and its targets."""

    name: str
    pattern: Mapping[str, Any]
    targets: tuple[Target, ...]
    matches: Callable[[Envelope], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "matches", compile_pattern(self.pattern))


def compile_pattern(pattern: Mapping[str, Any]) -> Callable[[Envelope], bool]:
    """A predicate for an event pattern: by lookup for plain lists on envelope fields, else by moto's matcher."""
    literal = {"source", "detail-type", "account", "region"}
    if all(name in literal and all(isinstance(v, str) for v in values) for name, values in pattern.items()):
        allowed = [(name, frozenset(values)) for name, values in pattern.items()]
        return lambda event: all(event[name] in values for name, values in allowed)
    matches: Callable[[Any], bool] = EventPattern.load(json.dumps(pattern)).matches_event
    return matches


def _no_constant(name: str) -> Any:
    raise ValueError(name)


class EventBus:
    """One bus. Times in entries are epoch seconds, as in the API's JSON."""

    def __init__(self, name: str, arn: str, account: str, region: str, journal: Journal) -> None:
        self.name, self.arn = name, arn
        self.rules: list[Rule] = []
        self._account, self._region, self._journal = account, region, journal

    def put_events(self, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Publish any number of entries; returns PutEvents' result entries. Accepted events are durable on return."""
        results: list[dict[str, str]] = []
        accepted: list[tuple[Envelope, str]] = []
        ingested_at = _iso(datetime.now(UTC))
        for entry in entries:
            event = self._envelope(entry, ingested_at)
            if "ErrorCode" in event:
                results.append(event)
                continue
            accepted.append((event, json.dumps(event, separators=(",", ":"), ensure_ascii=False)))
            results.append({"EventId": event["id"]})
        self._route(accepted, ingested_at)
        return results

    def _envelope(self, entry: Mapping[str, Any], ingested_at: str) -> Envelope:
        for name in _REQUIRED:
            if not entry.get(name):
                message = f"Parameter {name} is not valid. Reason: {name} is a required argument."
                return {"ErrorCode": "InvalidArgument", "ErrorMessage": message}
        if len(entry["Detail"]) > _ENTRY_LIMIT:
            return {"ErrorCode": "InvalidArgument", "ErrorMessage": "The entry is larger than 1 MB."}
        try:
            detail = json.loads(entry["Detail"], parse_constant=_no_constant)
        except ValueError:
            detail = None
        if not isinstance(detail, dict):
            return {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."}
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": entry["DetailType"],
            "source": entry["Source"],
            "account": self._account,
            "time": _time(entry) or ingested_at,
            "region": self._region,
            "resources": list(entry.get("Resources") or []),
            "detail": detail,
        }

    def _route(self, events: list[tuple[Envelope, str]], ingested_at: str) -> None:
        """Write to all targets in one transaction: a crash leaves an event in all of them or in none."""
        chosen: list[tuple[DurableQueue | DeliveryStream, list[str]]] = []
        for rule in self.rules:
            texts = [text for event, text in events if rule.matches(event)]
            if texts:
                chosen += [
                    (target.sink, [target.text(text, ingested_at) for text in texts])
                    for target in rule.targets
                ]
        if not chosen:
            return
        queued: list[tuple[DurableQueue, list[QueueMessage]]] = []
        with self._journal.transaction() as db:
            for sink, texts in chosen:
                if isinstance(sink, DurableQueue):
                    queued.append((sink, sink.stage(db, texts)))
                else:
                    sink.stage(db, texts)
        for queue, messages in queued:
            queue.publish(messages)
        for sink, texts in chosen:
            if isinstance(sink, DeliveryStream):
                sink.appended(sum(map(len, texts)))


def _time(entry: Mapping[str, Any]) -> str | None:
    """The producer's `Time`, if any."""
    time = entry.get("Time")
    return None if time is None else _iso(datetime.fromtimestamp(float(time), UTC))


def _iso(at: datetime) -> str:
    """A time to the second, as in EventBridge."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


class Buses:
    """All buses of the account, by name or ARN."""

    LIMIT = 10

    def __init__(self) -> None:
        self._buses: dict[str, EventBus] = {}

    def add(self, bus: EventBus) -> None:
        self._buses[bus.name] = bus

    def get(self, name_or_arn: str) -> EventBus | None:
        return self._buses.get(name_or_arn.rsplit("/", 1)[-1])

    def put_events(self, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """PutEvents over several buses, results in order. Entries for an unknown bus are dropped, as on AWS."""
        if len({entry.get("EventBusName") for entry in entries}) == 1:
            bus = self.get(str(entries[0].get("EventBusName") or "default"))
            return bus.put_events(entries) if bus else [{"EventId": str(uuid.uuid4())} for _ in entries]
        return [self.put_events([entry])[0] for entry in entries]
