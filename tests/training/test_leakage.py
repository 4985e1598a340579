"""Leakage checks: a training set that knows the future is suspected, an honest one is not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as replace_event

from candor.clock import DAY
from candor.contracts import parse_event
from history.asof.point_in_time import point_in_time
from tests.training.conftest import AS_OF, small_lender, write_archive
from training.dataset.job import build
from training.dataset.labels import labelled_checkouts
from training.dataset.read import read_training_set
from training.dataset.split import split_by_time
from training.evaluate.leakage import EventHistory, implausible, impossible_labels, leakage

FEATURES = small_lender().features


@pytest.fixture(scope="module")
def events(history):
    return [parse_event(json.dumps(body).encode()) for body in history]


@pytest.fixture(scope="module")
def honest(tmp_path_factory, history):
    root = tmp_path_factory.mktemp("leakage")
    write_archive(root / "archive", history)
    build(small_lender(), root / "archive", root / "dataset", as_of=AS_OF, run="r1")
    return read_training_set(root / "dataset", small_lender())


@pytest.fixture(scope="module")
def twin(honest, events):
    """The same rows with features that know the following 30 days."""
    known, _ = labelled_checkouts(small_lender(), events, AS_OF)
    questions = [row.question for row in known]
    return replace(honest, values=point_in_time(small_lender(), events, questions, leaky=True).values)


def checked(data, late_auc, archive=None):
    return leakage(data, split_by_time(data.q, data.known_at, 0.2), late_auc, FEATURES, archive)


def test_the_honest_set_is_not_suspected(honest, events):
    archive = EventHistory.before(AS_OF, small_lender(), events)
    report = checked(honest, 0.8, archive)
    assert report == {"suspected": False, "findings": [], "checked": ["labels", "figures", "archive"]}


@pytest.fixture(scope="module")
def corrected(history):
    """The same history with closings that became known three days late, and later copies that claim to be earlier."""
    events = [parse_event(json.dumps(body).encode()) for body in history]
    late = [
        replace_event(event, known_at=event.occurred_at + 3 * DAY) if event.type == "loan.closed" else event
        for event in events
    ]
    return [*late, *(event for event in events if event.type == "loan.closed")]


def values_of(honest, events, knowledge):
    questions = [row.question for row in labelled_checkouts(small_lender(), events, AS_OF)[0]]
    assert [question.row_id for question in questions] == list(honest.row_ids)
    table = point_in_time(small_lender(), events, questions, knowledge=knowledge)
    return replace(honest, values=table.values)


def test_what_became_known_too_late_is_found_and_what_was_known_is_not(honest, corrected):
    archive = EventHistory.before(AS_OF, small_lender(), corrected)
    known = checked(values_of(honest, corrected, "at_moment"), 0.8, archive)
    assert known["findings"] == []
    ever = checked(values_of(honest, corrected, "ever"), 0.8, archive)
    named = {finding["feature"] for finding in ever["findings"] if "events known later" in finding["what"]}
    assert "loans.count.lifetime" in named
    assert "tries.count.7d" not in named


def test_values_that_change_without_later_events_are_named(twin, events):
    archive = EventHistory.before(AS_OF, small_lender(), events)
    report = checked(twin, 0.8, archive)
    named = {finding["feature"] for finding in report["findings"] if "events known later" in finding["what"]}
    assert report["suspected"]
    assert {"loans.count.lifetime", "tries.count.7d"} <= named
    assert "request.amount" not in named


def test_labels_that_the_events_do_not_tell_are_named(honest, events):
    archive = EventHistory.before(AS_OF, small_lender(), events)
    flipped = replace(honest, bad=1 - honest.bad)
    assert any("another label" in finding["what"] for finding in checked(flipped, 0.8, archive)["findings"])
    early = EventHistory.before(AS_OF - 60 * DAY, small_lender(), events)
    assert any("no label was known" in finding["what"] for finding in checked(honest, 0.8, early)["findings"])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (lambda data: {"known_at": data.q - 1}, "at or before the moment of decision"),
        (lambda data: {"known_at": data.known_at + 200 * DAY}, "at or after as-of"),
        (lambda data: {"q": data.q + 200 * DAY, "known_at": data.q + 300 * DAY}, "decision was taken"),
    ],
    ids=["known before", "known too late", "decided too late"],
)
def test_a_label_of_an_impossible_time_is_told(honest, changes, what):
    wrong = replace(honest, **changes(honest))
    assert any(what in finding["what"] for finding in impossible_labels(wrong))
    assert list(impossible_labels(honest)) == []


def test_figures_too_good_to_be_true_are_told(honest):
    split = split_by_time(honest.q, honest.known_at, 0.2)
    values = honest.values.copy()
    values[:, 5] = honest.bad + np.random.default_rng(1).normal(0, 0.3, len(honest.bad))
    (finding,) = list(implausible(replace(honest, values=values), split, 0.9, FEATURES))
    assert finding["feature"] == "request.amount"
    assert "alone it has an AUC" in finding["what"]
    findings = list(implausible(honest, split, 0.97, FEATURES))
    assert findings[0]["what"] == "the model's AUC of 0.970 is implausibly high"


def test_a_feature_that_changes_its_meaning_is_told(honest):
    split = split_by_time(honest.q, honest.known_at, 0.2)
    values = honest.values.copy()
    values[split.late, 3] = -values[split.late, 3]  # 0.80 among those with a past, then 0.11
    findings = list(implausible(replace(honest, values=values), split, 0.8, FEATURES))
    assert [finding["feature"] for finding in findings] == ["loans.max_days_late.lifetime"]
