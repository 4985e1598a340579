"""The demo of `make run` in one process: the same source, library and jobs, for notebooks and tests.

Feature items are in memory and the archive is a folder; there is no server and no AWS. Function calls replace the
streams and queues of a stage, so the demo says nothing about speed, retries or permissions.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from candor.champion import Champions
from candor.clock import DAY, Deadline, FixedClock, format_rfc3339, parse_rfc3339
from candor.contracts import HISTORY, Application, encode_event, parse_checkout, parse_event
from candor.decide import Attempt, Decider
from candor.decision import Decision, decided, parse_record
from candor.ingest import ingest
from candor.model.bundle import Bundle
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.updates import Retention
from demo.sources.base import Event, Source, SourceCheckout
from lender import DEFINITIONS, REGULATION_PROFILE, policy
from local.errors import LocalError

ROOT: Final = Path(__file__).resolve().parent.parent
BATCH: Final = 500
RETENTION: Final = Retention(event_ids=20 * DAY)
_PATIENCE_S: Final = 60.0


class InProcessDemo:
    """One lender below `folder`, laid out as the buckets are.

    `archive/events`, `archive/decisions` and `runs/<run>/{dataset,model}`.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self.archive = folder / "archive"
        self.runs = folder / "runs"
        self.clock = FixedClock(source.as_of)
        self.store = MemoryDecisionStore(MemoryFeatureStore())
        self._bundles: dict[str, bytes] = {}
        self._objects = 0
        self._decider = Decider(
            definitions=DEFINITIONS,
            store=self.store,
            champions=Champions(DEFINITIONS, self._load, self.clock, _raise),
            fallback_policy=policy(),
            regulation_profile=REGULATION_PROFILE,
            id_key=b"rehearsal",
            clock=self.clock,
            retention_days=365,
            retention=RETENTION,
        )

    def load(self) -> int:
        """Load the history into features and archive; returns the number of events."""
        events = list(self.source.history())
        for start in range(0, len(events), BATCH):
            self.publish(events[start : start + BATCH])
        return len(events)

    def publish(self, events: Sequence[Event]) -> None:
        """Archive and apply events, given in time order. Raises LocalError if any is refused or not applied."""
        if not events:
            return
        self._archive("events", list(map(_archived, events)))
        self.clock.advance(max(0, parse_rfc3339(events[-1]["occurred_at"]) - self.clock.now_ms()))
        result = ingest(
            [parse_event(msgspec.json.encode(event)) for event in events],
            DEFINITIONS,
            self.store.features,
            self.clock,
            RETENTION,
            synchronous_store=self.store.synchronous,
        )
        if result.failed or result.refused:
            raise LocalError(f"{len(result.refused)} events were refused, {len(result.failed)} not applied")

    def retrain(self, run: str, seeds: Sequence[int] = (1,)) -> Bundle:
        """Build the data set and train as the containers do, on what was known at the source's `as_of`."""
        as_of, folder = format_rfc3339(self.source.as_of), self.runs / run
        processing = folder / "processing"
        (processing / "input").mkdir(parents=True)
        (processing / "input/archive").symlink_to(self.archive / "events")
        (processing / "output").mkdir()
        (processing / "output/dataset").symlink_to(folder / "dataset")
        (folder / "dataset").mkdir()
        (folder / "model").mkdir()
        _job(["training.dataset", "--as-of", as_of, "--run", run], PROCESSING_ROOT=str(processing))
        _job(
            ["training.fit"],
            SM_CHANNEL_DATASET=str(folder / "dataset"),
            SM_MODEL_DIR=str(folder / "model"),
            SM_HPS=json.dumps({"run": run, "as_of": as_of, "seeds": json.dumps(list(seeds))}),
        )
        return Bundle.from_bytes((folder / "model/bundle.json").read_bytes())

    def promote(self, bundle: Bundle) -> None:
        """Make the bundle the champion."""
        self._bundles[bundle.sha] = bundle.to_bytes()
        self.store.champion = bundle.sha

    def decide(self) -> list[Decision]:
        """Process events and checkouts from `as_of` on, in time order; archives and publishes the decisions."""
        decisions, waiting = [], list[Event]()
        for item in self.source.timeline():
            if isinstance(item, SourceCheckout):
                self.publish(waiting)
                waiting.clear()
                decisions.append(self._decide(item))
            else:
                waiting.append(item)
        self.publish(waiting)
        self._archive(
            "decisions", [_line(self.store.decisions[decision.id].record) for decision in decisions]
        )
        return decisions

    def _decide(self, checkout: SourceCheckout) -> Decision:
        self.clock.advance(max(0, checkout.q_ms - self.clock.now_ms()))
        application = Application(parse_checkout(msgspec.json.encode(checkout.body)), checkout.merchant)
        attempt = Attempt(application, checkout.id, checkout.q_ms)
        answer = self._decider.decide(attempt, Deadline(_PATIENCE_S))
        if answer.decision is None:
            raise LocalError(f"checkout {checkout.id} was decided before")
        self.publish([json.loads(encode_event(decided(answer.decision, DEFINITIONS)))])
        return parse_record(self.store.decisions[answer.decision.id].record)

    def _load(self, sha: str, _timeout_s: float) -> bytes:
        return self._bundles[sha]

    def _archive(self, kind: str, lines: Sequence[Mapping[str, Any]]) -> None:
        self._objects += 1
        path = self.archive / kind / f"part-{self._objects:06}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"\n".join(msgspec.json.encode(line) for line in lines), 1))


def _archived(event: Event) -> dict[str, Any]:
    """An event of loaded history in the archive's form, ingested at its own moment."""
    moment = event["occurred_at"]
    return {"ingestion_time": moment, "event": {"time": moment, "source": HISTORY, "detail": event}}


def _line(record: bytes) -> dict[str, Any]:
    content = json.loads(record)
    return {"id": content["id"], "q": content["q"], "record": msgspec.Raw(record)}


def _job(arguments: Sequence[str], **variables: str) -> None:
    """Run `python -m` with SageMaker's variables. Raises LocalError with the end of the job's standard error."""
    code = (ROOT, ROOT / "layers/core/python", ROOT / "layers/lender/python")
    # OpenMP's threads spin while they wait: on a busy machine that multiplies the CPU time of a small training.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **variables}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, code))
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LocalError(f"{arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-400:]}")


def _raise(sha: str, error: Exception) -> None:
    raise LocalError(f"bundle {sha[:12]} cannot serve: {error}") from error
