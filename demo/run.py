"""The demo of `make run`: load the lender's history, retrain, decide checkouts over HTTP, report, serve.

Every step uses the system's own interfaces (bus, queue, state machine, API) and saves its progress, so that an
interrupted run continues: an event that is sent twice is applied once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import tempfile
import time
from argparse import Namespace
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from candor.clock import SystemClock, format_rfc3339
from candor.contracts import HISTORY
from candor.errors import CandorError
from candor.model.packed import unpack
from candor.store.dynamodb import DecisionReader
from demo.changed_lender import ServedModels, backfill, still_filled, unfilled, version_names
from demo.examples import (
    checkout_body,
    checkout_command,
    event_command,
    event_example,
    explain_command,
    show_command,
)
from demo.merchants import MerchantKeys
from demo.progress import Posted, RunProgress, kept_start
from demo.sources.base import Event, Source, SourceCheckout, SourceError, describe
from demo.sources.folder import from_folder
from demo.sources.simulated import CUSTOMERS, SimulatedLender
from lender import DEFINITIONS
from local.errors import LocalError
from local.interrupts import stop_on_signals
from local.system import LocalSystem

if TYPE_CHECKING:
    from demo.report import ReportEvidence

FOLDER = "journey"
"""Folder of the demo's own files below the state."""

CHUNK = 500
SEEDS = [1, 2, 3, 4, 5]
_POLL_S = 0.2
_HTTP_TIMEOUT_S = 30
_RETRYABLE = (500, 502, 503, 504)
_RETRIES = 50


class Demo:
    """One source's run through a running system, step by step."""

    def __init__(self, system: LocalSystem, source: Source, console: Console, started_at: int) -> None:
        self._system = system
        self._source = source
        self._console = console
        self.outputs = system.outputs
        self.folder = system.folder(FOLDER)
        self.progress = RunProgress(self.folder, describe(source), started_at)
        self.models = ServedModels(system.outputs)
        self.keys = MerchantKeys(self.folder / "merchant_keys.json", system.outputs["MerchantsTableName"])

    def load(self) -> None:
        """Load the history through the bus and the queue; continues where an earlier run stopped."""
        events = list(self._source.history())
        if not self.progress.published:
            self.progress.views = version_names(DEFINITIONS.kept)
        with self._bar() as bar:
            task = bar.add_task("load history", total=len(events), completed=self.progress.published)
            for chunk in _chunks(events[self.progress.published :], CHUNK):
                self._publish(chunk)
                self.progress.published += len(chunk)
                self.progress.save()
                bar.update(task, completed=self.progress.published - self._waiting())
            while waiting := self._waiting():
                bar.update(task, completed=self.progress.published - waiting)
                time.sleep(_POLL_S)
            bar.update(task, completed=len(events))
        self._system.drain()

    def adopt_definitions(self) -> None:
        """Fill the views that changed since the state was made; have a model trained if the champion fits no longer.

        Raises LocalError if a view cannot be filled, and BundleRefused if the champion cannot be read.
        """
        progress, run = self.progress, self.models.champion_run(DEFINITIONS.hash)
        if progress.views is None and run is not None:
            progress.views = version_names(DEFINITIONS.views)
        filled = still_filled(DEFINITIONS, progress.views or ())
        changed = unfilled(DEFINITIONS, filled)
        if changed:
            self._system.flush()  # the archive has to hold every event that was applied
        for view in changed:
            with self._console.status(f"fill {view.name} from the archive"):
                summary = backfill(view, self.folder.parent)
            self._console.print(
                f"view {view.name} holds the archive: {summary['events']} events of {summary['items']} items, "
                f"{summary['compared']} entities compared"
            )
            filled += version_names([view])
        progress.views = filled
        if run is not None:
            progress.run = progress.run or run  # a change that was taken back leaves its failed run behind
        elif progress.run or progress.definitions not in (None, DEFINITIONS.hash):
            self._console.print(
                "the definitions differ from those of the champion: a model is trained on them"
            )
            progress.train_again()
        progress.save()

    def retrain(self) -> None:
        """Run the state machine, unless the champion of an earlier run serves; an interrupted run continues.

        Raises LocalError if it fails.
        """
        if self.progress.run:
            self._console.print(f"model of run {self.progress.run} serves")
            return
        self._system.flush()
        if not self.progress.requested_run:
            self.progress.requested_run = (
                f"{self._source.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
            )
            self.progress.definitions = DEFINITIONS.hash
            self.progress.save()
        run = self.progress.requested_run
        order = {"run": run, "as_of": format_rfc3339(self._source.as_of), "seeds": SEEDS, "promote": True}
        try:
            self._execute(order)
            if self.models.champion_run(DEFINITIONS.hash) is None:
                self.models.promote(run, SystemClock().now_ms())
            self._console.print(f"retrained and promoted: run {run}")
        except (LocalError, CandorError):
            self.progress.requested_run = ""  # the cause may be in the code: the next start begins a new run
            self.progress.save()
            raise
        self.progress.run = run
        self.progress.save()

    def _execute(self, order: dict[str, Any]) -> None:
        states = self._system.client("stepfunctions")
        execution = states.start_execution(
            stateMachineArn=self.outputs["RetrainStateMachineArn"], name=order["run"], input=json.dumps(order)
        )["executionArn"]
        with self._console.status("retrain: data set, five seeds, evaluation, gates, promotion"):
            while (description := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
                time.sleep(_POLL_S)
        if description["status"] != "SUCCEEDED":
            history = states.get_execution_history(executionArn=execution)["events"]
            why = "; ".join(self.models.failed_gates(order["run"])) or _reason(history)
            raise LocalError(
                f"retraining ended {description['status']}: {why}; see {self._system.folder('logs')}"
            )

    def decide(self) -> None:
        """Send events and checkouts in time order; each checkout once the queue has drained up to its moment."""
        timeline = list(self._source.timeline())
        waiting: list[Event] = []
        with self._bar() as bar, httpx.Client(base_url=self._system.url, timeout=_HTTP_TIMEOUT_S) as http:
            task = bar.add_task("decide checkouts", total=len(timeline), completed=self.progress.decided)
            for position, item in enumerate(
                itertools.islice(timeline, self.progress.decided, None), self.progress.decided + 1
            ):
                if not isinstance(item, SourceCheckout):
                    waiting.append(item)
                    continue
                self._settle(waiting)
                self.progress.add(*self._post(http, item))
                self.progress.decided = position
                self.progress.save()
                bar.update(task, completed=position)
            self._settle(waiting)
            self.progress.decided = len(timeline)
            self.progress.save()
            bar.update(task, completed=len(timeline))

    def _settle(self, waiting: list[Event]) -> None:
        for chunk in _chunks(waiting, CHUNK):
            self._publish(chunk)
        waiting.clear()
        self._system.drain()

    def _waiting(self) -> int:
        return len(self._system.queue(self.outputs["EventsQueueUrl"]))

    def _publish(self, events: Sequence[Event]) -> None:
        bus = self.outputs["EventBusName"]
        entries = [
            {"Source": HISTORY, "DetailType": event["type"], "Detail": json.dumps(event), "EventBusName": bus}
            for event in events
        ]
        self._system.publish(entries)

    def _post(self, http: httpx.Client, checkout: SourceCheckout) -> tuple[str, str, float]:
        headers = self.headers(checkout.merchant, f"{self._source.name}-{checkout.id}")
        headers["Candor-Replay-At"] = format_rfc3339(checkout.q_ms)
        started = time.perf_counter()
        answer = http.post("/v1/decisions", json=checkout.body, headers=headers)
        for _ in range(_RETRIES):
            if answer.status_code not in _RETRYABLE:
                break
            time.sleep(_POLL_S)  # the idempotency key makes a retry safe
            answer = http.post("/v1/decisions", json=checkout.body, headers=headers)
        latency_ms = (time.perf_counter() - started) * 1_000
        if answer.status_code != httpx.codes.OK:
            raise LocalError(f"checkout {checkout.id} was answered {answer.status_code}: {answer.text[:300]}")
        return checkout.id, answer.json()["id"], latency_ms

    def headers(self, merchant: str, idempotency_key: str) -> dict[str, str]:
        """Authorization and idempotency headers of a merchant's request."""
        basic = b64encode(f"{self.keys.key_of(merchant)}:".encode()).decode()
        return {"Authorization": f"Basic {basic}", "Idempotency-Key": idempotency_key}

    def posted(self) -> list[Posted]:
        """Every checkout decided so far, in time order."""
        answers = self.progress.answers()
        return [
            Posted(checkout, *answers[checkout.id])
            for checkout in self._source.checkouts()
            if checkout.id in answers
        ]

    def examples(self) -> Iterator[str]:
        """Lines that say how to decide a checkout and explain it, and how to send an event and see its effect."""
        url, state = self._system.url, self.folder.parent
        checkout = list(self._source.checkouts())[-1]  # of a customer who still buys
        key, body = self.keys.key_of(checkout.merchant), self.folder / "checkout.json"
        body.write_text(checkout_body(checkout))
        yield "Decide one checkout yourself, while it serves:"
        yield checkout_command(url, key, checkout)
        yield ""
        yield "Why it was answered so, by the answer's id (the same key gives the same answer):"
        yield explain_command(url, key, body, state)
        example = event_example(DEFINITIONS, self._source.history(), SystemClock().now_ms())
        if example is None:
            return
        yield ""
        yield "Send an event (again: it counts once), and a moment later see what it changed:"
        yield event_command(url, self._system.endpoints["AWS_REGION"], example.event)
        yield show_command(example, state)

    def download_archive(self, folder: Path) -> None:
        """Download every object of the event archive to its key below `folder`."""
        self._system.flush()
        for key, body in self._objects(self.outputs["ArchiveBucketName"], "events/"):
            target = folder / key
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)

    def model_archive(self) -> bytes:
        """The `model.tar.gz` of the run that trained the champion."""
        prefix = f"runs/{self.progress.run}/model/"
        archives = [
            body
            for key, body in self._objects(self.outputs["TrainingBucketName"], prefix)
            if key.endswith(".tar.gz")
        ]
        if not archives:
            raise LocalError(f"no model archive of run {self.progress.run}: run `make reset` and train again")
        return archives[-1]  # an interrupted job and its repetition leave the same archive

    def evidence(self) -> ReportEvidence:
        """Everything the report rests on, read back from the system. Raises LocalError if nothing was decided."""
        from demo.report import gather, models_in

        posted = self.posted()
        if not posted:
            raise LocalError("no checkout was decided: choose a larger SIZE=")
        stored = DecisionReader(self.outputs["DecisionsTableName"]).get_many(
            [post.decision_id for post in posted]
        )
        records = [stored[post.decision_id].record for post in posted]
        with tempfile.TemporaryDirectory() as folder:
            self.download_archive(Path(folder))
            packed = self.model_archive()
            trained = self.models.features_by_hash(records)
            return gather(posted, records, Path(folder), models_in(packed), unpack(packed), trained)

    def _objects(self, bucket: str, prefix: str) -> Iterator[tuple[str, bytes]]:
        s3 = self._system.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", ()):
                yield entry["Key"], s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()

    def _bar(self) -> Progress:
        columns = (
            TextColumn("{task.description:18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self._console)


def _reason(history: Sequence[Mapping[str, Any]]) -> str:
    """Cause of the first failed step; a job's cause is in the description that it ended with."""
    details = [detail for event in history for detail in event.values() if isinstance(detail, Mapping)]
    cause = next((str(detail["cause"]) for detail in details if detail.get("cause")), "no cause was given")
    try:
        job = json.loads(cause)
    except ValueError:
        return cause
    return (
        str(job.get("FailureReason") or job.get("errorMessage") or cause) if isinstance(job, dict) else cause
    )


def _chunks(events: Sequence[Event], size: int) -> Iterator[Sequence[Event]]:
    return (events[start : start + size] for start in range(0, len(events), size))


def source_of(data: str | None, size: str | None, ends: int) -> Source:
    """The folder of real data that DATA names, else the simulated lender up to `ends` (ms UTC), SIZE customers large."""
    if data:
        return from_folder(Path(data))
    if not size:
        return SimulatedLender(ends=ends)
    if not size.isdecimal() or not int(size):
        raise SourceError(f"SIZE={size} is not a number of customers: use one such as SIZE={CUSTOMERS}")
    return SimulatedLender(customers=int(size), ends=ends)


def main(arguments: Namespace) -> int:
    """Run the demo, then serve until interrupted (or stop, with ONCE)."""
    console = Console(highlight=False, soft_wrap=True)
    logging.getLogger("moto").setLevel(logging.CRITICAL)  # a failed step is reported here, in one line
    started_at = kept_start(arguments.state / FOLDER) or SystemClock().now_ms()
    source = source_of(os.environ.get("DATA"), os.environ.get("SIZE"), started_at)
    once = os.environ.get("ONCE", "0") not in ("", "0")
    with contextlib.ExitStack() as closing:
        with console.status("start what was synthesized"):
            system = closing.enter_context(LocalSystem(arguments.assembly, arguments.state, arguments.port))
        os.environ.update(system.endpoints)  # pynamodb finds the tables by these
        demo = Demo(system, source, console, started_at)
        demo.keys.register(source.merchants)
        demo.load()
        demo.adopt_definitions()
        demo.retrain()
        demo.decide()
        # Its statistics take a second to load: only here are they needed.
        from demo.report import report

        with console.status("report: the same vectors from the archive"):
            lines = list(report(demo.evidence(), demo.folder / "rows.jsonl", demo.examples()))
        stop_on_signals()  # the report's engine has taken Ctrl-C for itself
        print(*lines, sep="\n", flush=True)
        if once:
            print(f"READY {system.url}", flush=True)
            return 0
        system.serve()
    print("stopped", flush=True)
    return 0
