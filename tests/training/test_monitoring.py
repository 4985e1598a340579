"""Populations, labels and vintages of the monitoring report, against naive counting."""

from __future__ import annotations

import io
import json
import random
import re
from hashlib import sha256
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from candor.clock import DAY, HOUR, format_rfc3339, parse_rfc3339
from candor.contracts import Event
from candor.features.labels import Label
from candor.model.lightgbm import Booster
from tests.decide import lending
from training.monitoring.loans import LoanEnd, loan_ends
from training.monitoring.monitor import ApprovalPeriod, Approvals, Drift, monitor
from training.monitoring.page import page
from training.monitoring.plots import SHIFTED, runs, scale_of
from training.monitoring.population import (
    SnapshotUnusable,
    TrainingSnapshot,
    amount_bands,
    in_bands,
    served,
    snapshot_of,
)
from training.monitoring.signals import LIMITS, signals
from training.monitoring.vintages import Loans, vintages

NOW = lending.NOW
LABEL = Label("loan.originated", "loan.closed", "due_at", "3d")
DEFINITIONS = lending.DEFINITIONS
FEATURES = DEFINITIONS.features
RANDOM = np.random.default_rng(3)


def began(number: str, at: int, due: int | None = None, **changes) -> Event:
    data = {"checkout_id": f"chk_{number}", "loan_id": f"loan_{number}", "due_at": due}
    return Event(f"b{number}", "loan.originated", at, {}, data, **changes)


def closed(number: str, at: int, **changes) -> Event:
    return Event(f"c{number}", "loan.closed", at, {}, {"loan_id": f"loan_{number}"}, **changes)


def test_a_loan_is_bad_unless_it_was_closed_by_its_due_date_plus_grace():
    due, end = 40 * DAY, 43 * DAY
    events = [
        *(began(number, 10 * DAY, due) for number in ("in_time", "late", "never", "taken_back")),
        began("undated", 10 * DAY),
        closed("in_time", end),
        closed("in_time", end + 1),  # of two copies the earlier counts
        closed("late", end + 1),
        closed("taken_back", 30 * DAY),
        closed("taken_back", 30 * DAY, voided_at=31 * DAY),
        Event("d", "checkout.decided", 60 * DAY, {}, {}),
    ]
    result = loan_ends(LABEL, events, until=50 * DAY)
    assert result.ends == {
        f"chk_{number}": LoanEnd(10 * DAY, end, bad)
        for number, bad in (("in_time", False), ("late", True), ("never", True), ("taken_back", True))
    }
    assert (result.undated, result.newest) == (1, end + 1)
    assert not loan_ends(LABEL, events, until=31 * DAY).ends["chk_taken_back"].bad
    assert (
        loan_ends(LABEL, [began("voided", DAY, due), began("voided", DAY, due, voided_at=2 * DAY)], NOW).ends
        == {}
    )


def test_what_the_platform_says_itself_does_not_tell_how_far_labels_are_known():
    events = [began("1", DAY, 20 * DAY), Event("d", "checkout.decided", 90 * DAY, {}, {})]
    assert loan_ends(LABEL, events, NOW).newest == DAY


def some_loans(size: int) -> Loans:
    start = parse_rfc3339("2026-03-01T00:00:00Z")
    starts = start + RANDOM.integers(0, 120 * DAY, size)
    terms = RANDOM.choice([17 * DAY, 33 * DAY, 59 * DAY], size)
    return Loans(starts, starts + terms, RANDOM.random(size) < 0.2, RANDOM.uniform(0.05, 0.4, size))


def test_vintages_are_what_counting_one_by_one_gives():
    loans, until = some_loans(700), parse_rfc3339("2026-06-10T00:00:00Z")
    months = vintages(loans, until)
    assert [vintage.month for vintage in months] == ["2026-03", "2026-04", "2026-05", "2026-06"]
    rows = list(zip(loans.began, loans.known_at, loans.bad, loans.pd, strict=True))
    for vintage in months:
        in_month = [row for row in rows if format_rfc3339(int(row[0]))[:7] == vintage.month]
        mature = [row for row in in_month if row[1] < until]
        assert (vintage.loans, vintage.mature, vintage.immature) == (
            len(in_month),
            len(mature),
            len(in_month) - len(mature),
        )
        assert vintage.bads == sum(bool(bad) for _, _, bad, _ in mature)
        if mature:
            assert vintage.predicted == pytest.approx(sum(pd for *_, pd in mature) / len(mature))
            assert vintage.ratio == pytest.approx(vintage.bads / sum(pd for *_, pd in mature))
        for cell in vintage.by_age:
            old = [row for row in in_month if row[1] - row[0] <= cell.days * DAY]
            known = [row for row in old if row[1] < until]
            assert (cell.mature, cell.awaited) == (len(known), len(old) - len(known))
            assert cell.bads == sum(bool(bad) for _, _, bad, _ in known)
            assert cell.censored == (len(known) < len(old))
    assert [cell.days for cell in months[0].by_age] == [30, 45, 60]


def test_immature_loans_count_for_neither_side():
    loans = some_loans(50)
    for vintage in vintages(loans, int(loans.known_at.min())):
        assert (vintage.mature, vintage.bads, vintage.bad_rate, vintage.ratio) == (0, 0, None, None)
        assert vintage.immature == vintage.loans
    assert vintages(Loans(*(np.array([], dtype=kind) for kind in (int, int, bool, float))), NOW) == []


@pytest.fixture(scope="module")
def bundle():
    return lending.champion()


@pytest.fixture(scope="module")
def template():
    """One real decision, as a template for others."""
    return lending.Till().decide().decision


def draw(size: int, amount: float = 9.0) -> np.ndarray:
    """Feature rows; `amount` is the mean of the amount's logarithm."""
    rows = RANDOM.normal(size=(size, len(FEATURES)))
    rows[:, FEATURES.index("failed.count.7d")] = RANDOM.integers(0, 3, size)
    rows[:, FEATURES.index("request.amount")] = np.exp(RANDOM.normal(amount, 1.0, size)).astype(int) + 1
    return rows


def snapshot(bundle, rows: np.ndarray, **changes):
    columns = {"amount": rows[:, FEATURES.index("request.amount")].astype(np.int64)}
    columns |= {name: rows[:, index] for index, name in enumerate(FEATURES)}
    columns["more"] = np.zeros(len(rows))  # whatever a later release adds
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    data = file.getvalue()
    manifest = {
        "as_of": format_rfc3339(NOW),
        "sha256": sha256(data).hexdigest(),
        "definition_hash": bundle.definition_hash,
        "rows": len(rows),
    }
    return snapshot_of("r1", data, json.dumps(manifest | changes).encode(), bundle)


def decisions(template, bundle, rows: np.ndarray, approved: float = 0.7):
    """One decision per hour, each for its own checkout."""
    choose = random.Random(1)
    for number, row in enumerate(rows.tolist()):
        amount = int(row[FEATURES.index("request.amount")])
        yield msgspec.structs.replace(
            template,
            id=f"d{number}",
            q=NOW + number * HOUR,
            request=msgspec.structs.replace(template.request, checkout_id=f"chk_{number}", total=amount),
            vector=msgspec.structs.replace(template.vector, values=row),
            bundle=bundle.sha,
            score=0.01 + 0.5 * choose.random(),
            outcome="approved" if choose.random() < approved else "declined",
        )


def ends(size: int, days: int = 30, bad: int = 5) -> dict[str, LoanEnd]:
    """A loan for each checkout, every `bad`th of them bad."""
    starts = (NOW + number * HOUR for number in range(size))
    return {f"chk_{n}": LoanEnd(at, at + days * DAY, n % bad == 0) for n, at in enumerate(starts)}


def report(bundle, before, population, observed_until=NOW + 400 * DAY):
    moments = {"since": NOW, "until": NOW + 500 * DAY, "observed_until": observed_until}
    return monitor(bundle, DEFINITIONS, before, population, **moments)


def test_the_feature_that_moved_is_the_one_that_is_named(bundle, template):
    before, rows = snapshot(bundle, draw(3_000)), draw(1_500)
    monitoring = report(bundle, before, served(decisions(template, bundle, rows), bundle, DEFINITIONS, {}))
    assert {feature.state for feature in monitoring.features} == {"stable"}
    assert {signal.name: signal.value for signal in signals(monitoring)} == {
        "FeatureDrift": 0.0,
        "ScoreDrift": pytest.approx(monitoring.score.psi),
        "ApprovalRateShift": 0.0,
    }
    rows[:, FEATURES.index("paid.mean_amount.30d")] += 1.0
    rows[700:, FEATURES.index("sales.sum_amount.24h")] = np.nan
    monitoring = report(bundle, before, served(decisions(template, bundle, rows), bundle, DEFINITIONS, {}))
    assert {feature.name for feature in monitoring.features if feature.state == "act"} == {
        "paid.mean_amount.30d",
        "sales.sum_amount.24h",
    }
    missing = {feature.name: feature.missing for feature in monitoring.features}
    assert missing["sales.sum_amount.24h"] == (0.0, pytest.approx(800 / 1_500))
    drift = next(iter(signals(monitoring)))
    assert (drift.name, drift.words, drift.past_limit) == ("FeatureDrift", monitoring.features[0].name, True)
    assert json.loads(json.dumps(monitoring.as_json(), allow_nan=False))["features"][0]["state"] == "act"


def test_few_decisions_say_nothing_of_a_shift(bundle, template):
    before = snapshot(bundle, draw(2_000))
    monitoring = report(
        bundle, before, served(decisions(template, bundle, draw(40, 12.0)), bundle, DEFINITIONS, {})
    )
    assert [signal.name for signal in signals(monitoring)] == []


def test_what_another_model_decided_is_scored_again(bundle, template):
    rows = draw(6)
    own, other, none, foreign, *_ = decisions(template, bundle, rows)
    other = msgspec.structs.replace(other, bundle="f" * 64)
    none = msgspec.structs.replace(none, bundle=None, score=None)
    foreign = msgspec.structs.replace(foreign, definition_hash="0" * 64)
    population = served([none, other, own, foreign], bundle, DEFINITIONS, {})
    with Booster(bundle.model) as engine:
        again = [bundle.score(engine.raw(row)) for row in rows[1:3].tolist()]
    assert population.pd.tolist() == [own.score, *again]
    assert population.own.tolist() == [True, False, False]
    assert dict(population.left_out) == {"its features are not those of the model": 1}


def test_a_loan_counts_once_for_the_latest_decision_that_approved_it(bundle, template):
    checkout = template.request
    made = [
        msgspec.structs.replace(decision, outcome=outcome, request=checkout)
        for decision, outcome in zip(
            decisions(template, bundle, draw(4)),
            ["approved", "approved", "declined", "declined"],
            strict=True,
        )
    ]
    end = LoanEnd(NOW, NOW + DAY, bad=True)
    population = served(made, bundle, DEFINITIONS, {checkout.checkout_id: end})
    assert population.loans == [None, end, None, None]
    population = served(made[2:], bundle, DEFINITIONS, {checkout.checkout_id: end})
    assert population.loans == [None, end]


def test_labels_count_from_the_moment_they_are_known(bundle, template):
    rows, before = draw(400), snapshot(bundle, draw(500))
    population = served(decisions(template, bundle, rows), bundle, DEFINITIONS, ends(400))
    early = report(bundle, before, population, observed_until=NOW + 30 * DAY)
    assert (early.calibration, early.population["mature"], early.population["immature"]) == (None, 0, 400)
    assert {segment.mature for segment in early.segments} == {0}
    half = report(bundle, before, population, observed_until=NOW + 30 * DAY + 200 * HOUR)
    assert (half.calibration.n, half.calibration.bads) == (200, 40)
    assert half.calibration.predicted == pytest.approx(population.pd[:200].mean())
    assert sum(segment.mature for segment in half.segments if segment.by == "outcome") == 200
    assert sum(segment.bads for segment in half.segments if segment.by == "amount") == 40
    assert sum(segment.n for segment in half.segments if segment.by == "merchant") == 400


def test_bads_that_were_not_predicted_and_a_slope_that_is_none_are_signals(bundle, template):
    population = served(decisions(template, bundle, draw(400)), bundle, DEFINITIONS, ends(400, bad=2))
    by_name = {
        signal.name: signal for signal in signals(report(bundle, snapshot(bundle, draw(500)), population))
    }
    expected = 200 / population.pd.sum()
    assert by_name["BadRateOff"].past_limit
    assert 0.2 < by_name["BadRateOff"].value < expected - 1.0
    assert by_name["CalibrationOff"].past_limit  # these scores know nothing of the outcome


def test_the_last_seven_days_approvals_are_held_against_the_days_before(bundle, template):
    made = list(decisions(template, bundle, draw(24 * 28), approved=0.8))
    late = [msgspec.structs.replace(decision, outcome="declined") for decision in made[-24 * 6 :]]
    monitoring = report(
        bundle,
        snapshot(bundle, draw(500)),
        served(made[: -24 * 6] + late, bundle, DEFINITIONS, {}),
    )
    assert sum(period.n for period in monitoring.approvals.periods) == len(made)
    assert monitoring.approvals.change == pytest.approx(-0.69, abs=0.06)
    [shift] = [signal for signal in signals(monitoring) if signal.name == "ApprovalRateShift"]
    assert LIMITS["ApprovalRateShift"] < shift.value < abs(monitoring.approvals.change)


def test_no_line_joins_periods_across_a_gap(bundle, template):
    made = list(decisions(template, bundle, draw(24 * 6)))
    moved = [msgspec.structs.replace(decision, q=decision.q + 10 * DAY) for decision in made[-24 * 2 :]]
    monitoring = report(
        bundle, snapshot(bundle, draw(500)), served(made[: -24 * 2] + moved, bundle, DEFINITIONS, {})
    )
    before, after = runs(monitoring.approvals)
    assert (len(before) + len(after), after[0].start - before[-1].start) == (
        len(monitoring.approvals.periods),
        10 * DAY,
    )
    for run in (before, after):
        assert {later.start - earlier.start for earlier, later in pairwise(run)} == {DAY}


def test_two_periods_far_apart_are_two_runs():
    periods = [ApprovalPeriod(start, 10, 5) for start in (0, 150 * DAY)]
    assert [len(run) for run in runs(Approvals(periods, DAY, None, None))] == [1, 1]


def test_bins_are_drawn_in_the_features_unit(bundle, template):
    def drift(*edges):
        return Drift("f", 0.0, 0.0, 0.0, "stable", (0.0, 0.0), [(f"≤ {edge}", 1, 1) for edge in edges])

    assert scale_of(drift(100, 20_000), "money", ["USD"]) == (100.0, "USD")
    assert scale_of(drift(100, 20_000), "money", ["JPY", "USD"]) == (1.0, "minor units")
    assert scale_of(drift(3_600, 5_589_384), "seconds", []) == (86_400.0, "days")
    assert scale_of(drift(3_600, 86_400), "seconds", []) == (3_600.0, "hours")
    assert scale_of(drift(1, 2), "days", []) == (1.0, "days")


def test_amounts_of_segments_are_money(bundle, template):
    monitoring = report(
        bundle,
        snapshot(bundle, draw(500)),
        served(decisions(template, bundle, draw(300)), bundle, DEFINITIONS, {}),
    )
    assert monitoring.currencies == ["USD"]
    bands = [segment.value for segment in monitoring.segments if segment.by == "amount"]
    assert all(re.fullmatch(r"(≤ |> |[\d,.]+ USD to )[\d,]+\.\d\d USD", band) for band in bands), bands


def test_a_snapshot_that_is_not_the_models_is_refused(bundle):
    for changes, why in (
        ({"sha256": "0" * 64}, "not the file"),
        ({"definition_hash": "0"}, "other definitions"),
    ):
        with pytest.raises(SnapshotUnusable, match=why):
            snapshot(bundle, draw(20), **changes)


def test_the_page_holds_everything_and_asks_nothing_of_a_network(bundle, template):
    rows, before = draw(400), snapshot(bundle, draw(500))
    made = [
        msgspec.structs.replace(decision, merchant_id="<b>") for decision in decisions(template, bundle, rows)
    ]
    monitoring = report(bundle, before, served(made, bundle, DEFINITIONS, ends(400)))
    text = page(monitoring)
    assert page(monitoring) == text
    assert text.count("<svg") == 5 + SHIFTED
    assert all(f"<code>{name.replace('.', '.<wbr>')}</code>" in text for name in FEATURES)
    assert "merchant: &lt;b&gt;" in text
    assert "<b>:" not in text
    assert not re.search(r'(?:src|href)="(?!#)|url\((?!#)', text)
    assert not re.search(r"<(script|link|img|iframe)", text)


def test_a_page_without_labels_says_so(bundle, template):
    made = decisions(template, bundle, draw(200))
    text = page(report(bundle, snapshot(bundle, draw(500)), served(made, bundle, DEFINITIONS, {})))
    assert "No label is known yet" in text
    assert "No loan came of these decisions yet" in text


def test_amount_bands_are_a_partition():
    sample = of_amounts(np.array([5, 5, 5, 7, 9, 11, 30, 40]))
    edges = amount_bands(sample)
    amounts = np.arange(60)
    masks = [mask for _, mask in in_bands(amounts, edges)]
    assert np.array(masks).sum(axis=0).tolist() == [1] * 60
    assert [words for words, _ in in_bands(amounts, edges)] == ["≤ 5", "6 to 7", "8 to 11", "> 11"]


def of_amounts(amount: np.ndarray) -> TrainingSnapshot:
    return TrainingSnapshot("r1", {}, np.empty((len(amount), 0)), amount, np.zeros(len(amount)))
