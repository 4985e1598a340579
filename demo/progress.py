"""Progress of the demo on disk, from which the next run continues."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from demo.sources.base import SourceCheckout
from local.errors import LocalError

_FILE: Final = "progress.json"


@dataclass(frozen=True)
class Posted:
    """One checkout as the merchant saw it: the decision's id and the response time (ms)."""

    checkout: SourceCheckout
    decision_id: str
    latency_ms: float


def kept_start(folder: Path) -> int | None:
    """Moment (ms UTC) of the first start, as kept in `folder`; None before it."""
    file = folder / _FILE
    started_at: int | None = json.loads(file.read_text()).get("started_at") if file.exists() else None
    return started_at


class RunProgress:
    """Progress of one population: events published, timeline items decided, runs, and every answer.

    `requested_run` is the training run that was started, `run` the one whose model serves; `definitions` is the hash
    of the declarations that it was started for. `views` holds the versions that have all events so far, as
    `view@version`. Both are None in the progress of a state that did not record them. `started_at` (ms UTC) is the
    moment of the first start, at which the timeline of a simulated population ends.
    """

    def __init__(self, folder: Path, population: str, started_at: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / _FILE
        self._answers = folder / "answers.jsonl"
        self._population = population
        self.started_at = started_at
        self.published = 0
        self.decided = 0
        self.requested_run = self.run = ""
        self.definitions: str | None = None
        self.views: list[str] | None = None
        if self._file.exists():
            self._resume(json.loads(self._file.read_text()))
        else:
            self.save()  # before the first event, so that an interrupted run continues with the same population
        self._mend()

    def _resume(self, saved: dict[str, Any]) -> None:
        known = saved.get("population")
        if known != self._population:
            raise LocalError(
                f"this state belongs to {known}, not to {self._population}: run `make reset` first"
            )
        self.published, self.decided = int(saved["published"]), int(saved["decided"])
        self.run = str(saved["run"])
        self.requested_run = str(saved.get("asked", ""))
        self.definitions, self.views = saved.get("definitions"), saved.get("views")

    def _mend(self) -> None:
        """Drop a line that a kill cut short: its checkout is posted again and gets the same answer."""
        if self._answers.exists():
            whole = self._answers.read_bytes().rpartition(b"\n")
            if whole[2]:
                os.truncate(self._answers, len(whole[0] + whole[1]))

    def save(self) -> None:
        """Write the progress atomically."""
        content = {
            "population": self._population,
            "started_at": self.started_at,
            "published": self.published,
            "decided": self.decided,
            "asked": self.requested_run,
            "run": self.run,
            "definitions": self.definitions,
            "views": self.views,
        }
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(content))
        new.replace(self._file)

    def train_again(self) -> None:
        """Forget the run that was requested or serves: the next one begins anew."""
        self.requested_run = self.run = ""
        self.definitions = None

    def add(self, checkout_id: str, decision_id: str, latency_ms: float) -> None:
        """Append an answer; `latency_ms` is rounded to microseconds."""
        with self._answers.open("a") as lines:
            lines.write(json.dumps([checkout_id, decision_id, round(latency_ms, 3)]) + "\n")

    def answers(self) -> dict[str, tuple[str, float]]:
        """(decision id, latency in ms) by checkout id; the first answer counts, a repeated one is a replay."""
        answers: dict[str, tuple[str, float]] = {}
        if self._answers.exists():
            for line in self._answers.read_text().splitlines():
                checkout_id, decision_id, latency_ms = json.loads(line)
                answers.setdefault(checkout_id, (decision_id, latency_ms))
        return answers
