"""SuperLender: trained on what was known by 22 July 2017, tested on the loans of 22 to 30 July; and its leaky twin.

The twin's features look 30 days ahead. The leakage check of the evaluation must suspect it, and not the honest set.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candor.clock import format_rfc3339, parse_rfc3339
from candor.contracts import HISTORY, Application, Event, parse_checkout, parse_event
from demo.sources.base import Source, SourceCheckout
from demo.sources.folder import from_folder
from history.asof.point_in_time import PointInTimeQuery, point_in_time
from lender import DEFINITIONS, MONOTONE, REASONS, policy
from training.dataset.job import build
from training.dataset.labels import labelled_checkouts
from training.dataset.read import TrainingSet, read_training_set
from training.dataset.split import split_at
from training.evaluate.leakage import EventHistory, leakage
from training.fit.hyperparameters import Settings
from training.fit.job import TrainedModels, train
from training.fit.recipe import raw_scores
from training.metrics.scores import auc, auc_interval

AS_OF = parse_rfc3339("2017-07-22T00:00:00Z")
SETTINGS = Settings(run="quality", as_of=format_rfc3339(AS_OF))


def measure(folder: Path) -> dict[str, Any]:
    """Mean AUC of the seeds' models on the tested loans, its interval, and the leakage check of both sets."""
    source = from_folder(folder)
    data = _training_set(source)
    events = [_event(event) for event in source.history()]
    trained = train(data, SETTINGS, DEFINITIONS, REASONS, policy(), MONOTONE)
    values, bad = _tested(source, events)
    scores = {seed: raw_scores(text, values) for seed, text in trained.seeds.items()}
    each = {str(seed): auc(bad, seed_scores) for seed, seed_scores in scores.items()}
    interval = auc_interval(bad, list(scores.values()))
    twin = _twin(data, events)
    looked = train(twin, replace(SETTINGS, seeds=(1,)), DEFINITIONS, REASONS, policy(), MONOTONE)
    archive = EventHistory.before(AS_OF, DEFINITIONS, events)
    return {
        "trained": len(data.bad),
        "tested": len(bad),
        "bads": int(bad.sum()),
        "auc": float(np.mean(list(each.values()))),
        "auc_low": interval.low,
        "auc_high": interval.high,
        "auc_per_seed": each,
        "bundle": trained.bundle.sha,
        "leakage": {"honest": _checked(data, trained, archive), "twin": _checked(twin, looked, archive)},
        "without_archive": {"honest": _checked(data, trained, None), "twin": _checked(twin, looked, None)},
    }


def _checked(data: TrainingSet, trained: TrainedModels, archive: EventHistory | None) -> dict[str, Any]:
    metrics = trained.bundle.metrics
    split = split_at(data.q, data.known_at, metrics["period_from"])
    return leakage(data, split, metrics["auc_served"], DEFINITIONS.features, archive)


def _training_set(source: Source) -> TrainingSet:
    """Training set built by the retraining job, from an archive as Firehose writes it."""
    with tempfile.TemporaryDirectory() as folder:
        archive, out = Path(folder, "archive"), Path(folder, "dataset")
        archive.mkdir()
        with gzip.open(archive / "part-1.gz", "wt") as lines:
            for event in source.history():
                envelope = {"time": event["occurred_at"], "source": HISTORY, "detail": event}
                lines.write(json.dumps(envelope) + "\n")
        build(DEFINITIONS, archive, out, as_of=AS_OF, run="quality")
        return read_training_set(out, DEFINITIONS)


def _twin(data: TrainingSet, events: Sequence[Event]) -> TrainingSet:
    """Training set with the same rows and labels, and features that look 30 days ahead."""
    known, _ = labelled_checkouts(DEFINITIONS, events, AS_OF)
    return replace(
        data,
        values=point_in_time(
            DEFINITIONS, events, [checkout.question for checkout in known], leaky=True
        ).values,
    )


def _tested(source: Source, events: Sequence[Event]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Features as of each tested loan, and its flag."""
    later = [_event(item) for item in source.timeline() if not isinstance(item, SourceCheckout)]
    checkouts = list(source.checkouts())
    questions = [_question(checkout) for checkout in checkouts]
    values = point_in_time(DEFINITIONS, [*events, *later], questions).values
    return values, np.array([checkout.label for checkout in checkouts], dtype=np.int8)


def _question(checkout: SourceCheckout) -> PointInTimeQuery:
    body = parse_checkout(json.dumps(checkout.body).encode())
    return PointInTimeQuery(checkout.id, checkout.q_ms, Application(body, checkout.merchant))


def _event(event: dict[str, Any]) -> Event:
    return parse_event(json.dumps(event).encode(), HISTORY)


def lines(figures: dict[str, Any]) -> list[str]:
    """Figures as lines of text."""
    seeds = " ".join(f"{seed}:{value:.4f}" for seed, value in figures["auc_per_seed"].items())
    interval = f"{figures['auc_low']:.3f} to {figures['auc_high']:.3f}"
    text = [
        f"superlender: trained on {figures['trained']:,}, tested on {figures['tested']:,}, {figures['bads']} of them bad",
        f"auc={figures['auc']:.4f} (mean of {len(figures['auc_per_seed'])} seeds: {seeds}; 95 %: {interval})",
    ]
    for kind in ("leakage", "without_archive"):
        for name, result in figures[kind].items():
            text.append(f"{kind} {name}: suspected={result['suspected']}, {len(result['findings'])} findings")
            text += [
                f"  {item.get('feature') or item.get('rows')}: {item['what']}"
                for item in result["findings"][:4]
            ]
    return text
