"""Commands to paste while the demo serves: decide a checkout, send an event, see what the event changed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from candor.clock import format_rfc3339
from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from demo.sources.base import Event, SourceCheckout

_LOOKED_AT: Final = 1_000
"""Events of the source among which the example is chosen."""

_CANDOR: Final = ".venv/bin/candor"
_JSON: Final = "-H 'Content-Type: application/json'"


class EventExample(NamedTuple):
    """An event and a view that counts it."""

    event: Event
    view: FeatureView

    @property
    def token(self) -> str:
        return str(self.event["entities"][self.view.entity.name])


def checkout_body(checkout: SourceCheckout) -> str:
    """JSON body of a checkout to decide at the system's own clock."""
    return json.dumps({name: value for name, value in checkout.body.items() if name != "occurred_at"})


def checkout_command(url: str, key: str, checkout: SourceCheckout) -> str:
    """A command that decides one checkout."""
    return f"curl -si {_decision(url, key)} -d {shlex.quote(checkout_body(checkout))}"


def explain_command(url: str, key: str, body: Path, state: Path) -> str:
    """A command that explains the decision of `checkout_command`: the same key gives the same answer, with its id.

    `body` is a file with the checkout's body.
    """
    decided = f"curl -s {_decision(url, key)} -d @{shlex.quote(str(body))}"
    return f"{_CANDOR} decisions explain \"$({decided} | grep -o 'dec_[a-z0-9]*')\" {_on(state)}"


def _decision(url: str, key: str) -> str:
    return f"{url}/v1/decisions -u '{key}:' -H 'Idempotency-Key: try-1' {_JSON}"


def event_example(definitions: Definitions, history: Iterable[Event], now_ms: int) -> EventExample | None:
    """The shortest of the first events that a view counts, as if it happened now; None if no view counts any."""
    candidates = [
        EventExample(event, view)
        for event in islice(history, _LOOKED_AT)
        for view in islice(_counting(definitions, event), 1)
    ]
    if not candidates:
        return None
    event, view = min(candidates, key=lambda example: len(json.dumps(example.event)))
    moment = {"event_id": f"try-{now_ms}", "occurred_at": format_rfc3339(now_ms)}
    # Only loaders of history may say when an event became known.
    kept = {name: value for name, value in event.items() if name not in ("known_at", "voided_at")}
    return EventExample(kept | moment, view)


def _counting(definitions: Definitions, event: Event) -> Iterator[FeatureView]:
    """Views that count an event, those of persons first."""
    views = definitions.views_by_event.get(event["type"], ())
    counting = [view for view in views if view.entity.name in event["entities"]]
    yield from sorted(counting, key=lambda view: view.entity.key == "merchant_id")


def event_command(url: str, region: str, event: Event) -> str:
    """A command that sends one event, signed as API Gateway requires; here any key is accepted."""
    signed = f"--aws-sigv4 aws:amz:{region}:execute-api --user local:local"
    return f"curl -si {url}/v1/events {signed} {_JSON} -d {shlex.quote(json.dumps({'events': [event]}))}"


def show_command(example: EventExample, state: Path) -> str:
    """A command that prints the features of the event's entity."""
    words = ("features", "show", example.view.name, example.token)
    return f"{_CANDOR} {shlex.join(words)} {_on(state)}"


def _on(state: Path) -> str:
    return shlex.join(("--local", "--state", str(state)))
