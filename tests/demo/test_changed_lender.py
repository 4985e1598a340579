"""A lender that changed since its model was trained: views to fill, and decisions of the earlier definitions."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from candor import Count, Definitions, FeatureView, Max
from candor.contracts import Application, Checkout, Event, parse_checkout
from candor.model.bundle import Bundle
from demo import changed_lender
from demo import run as demo_run
from demo.changed_lender import backfill, still_filled, unfilled, version_names
from demo.progress import RunProgress
from demo.recomputed import declared_by_hash, recompute
from demo.report import DecidedRow, ReportEvidence, compare, report
from demo.run import Demo
from demo.sources.simulated import SimulatedLender
from history.asof.point_in_time import PointInTimeQuery
from lender import DEFINITIONS
from local.errors import LocalError
from tests.decide.lending import body, champion, customer, device, failed, merchant, paid, started

NOW = 1_800_000_000_000


def view(name: str, *windows: str) -> FeatureView:
    return FeatureView(name, customer, [failed], [Count()], list(windows))


def lender_of(*views: FeatureView, candidates: tuple[FeatureView, ...] = ()) -> Definitions:
    return Definitions(
        entities=[customer, merchant, device],
        events=[paid, failed, started],
        views=views,
        candidate_views=candidates,
    )


LOANS = FeatureView("loans", customer, [paid], [Max("amount")], ["30d"])
BEFORE, AFTER = view("failures", "30d"), view("failures", "7d", "30d")


class TestViewsToFill:
    def test_a_changed_and_a_new_view_are_filled_and_no_other(self):
        filled = version_names(lender_of(LOANS, BEFORE).kept)
        changed = lender_of(LOANS, AFTER, view("refusals", "1h"))

        assert [each.name for each in unfilled(changed, filled)] == ["failures", "refusals"]

    def test_a_version_that_is_no_longer_kept_has_to_be_filled_again(self):
        """The updater skips an abandoned version, so its items miss the events of the time between."""
        filled = still_filled(lender_of(LOANS, AFTER), version_names([LOANS, BEFORE]))

        assert filled == version_names([LOANS])
        assert unfilled(lender_of(LOANS, BEFORE), filled) == [BEFORE]

    def test_a_candidate_view_stays_filled(self):
        definitions = lender_of(LOANS, AFTER, candidates=(BEFORE,))

        assert still_filled(definitions, version_names([LOANS, BEFORE])) == version_names([LOANS, BEFORE])


class TestBackfill:
    @pytest.mark.parametrize(
        ("stdout", "stderr", "cause"),
        [
            ("", "warning\nError: no local system runs in x\n", "no local system runs in x"),
            ("", "", "exit code 1"),
            (
                json.dumps({"failures": {"an item is damaged": 2}, "different": 3, "compared": 100}),
                "Error: see above\n",
                "2 x an item is damaged, 3 of 100 entities differ from the archive",
            ),
        ],
    )
    def test_a_failure_is_a_line_that_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str, cause: str
    ):
        ended = subprocess.CompletedProcess([], 1, stdout, stderr)
        monkeypatch.setattr(changed_lender.subprocess, "run", lambda *_, **__: ended)

        with pytest.raises(LocalError) as refusal:
            backfill(AFTER, Path("state"))
        assert str(refusal.value) == (
            f"view failures was not filled from the archive: {cause}; "
            "run `make run` again, or `make reset` to begin anew"
        )

    def test_the_command_exists_and_its_refusal_is_the_cause(self, tmp_path: Path):
        with pytest.raises(LocalError, match=r"^view failures was not filled .*: no local system runs in "):
            backfill(AFTER, tmp_path)


class TestProgress:
    def test_views_and_definitions_are_kept(self, tmp_path: Path):
        progress = RunProgress(tmp_path, "p", NOW)
        progress.views, progress.definitions, progress.run = ["a@1"], "h", "r"
        progress.save()

        resumed = RunProgress(tmp_path, "p", NOW)
        assert (resumed.views, resumed.definitions, resumed.run) == (["a@1"], "h", "r")
        resumed.train_again()
        assert (resumed.requested_run, resumed.run, resumed.definitions) == ("", "", None)

    def test_a_state_that_did_not_record_them_says_so(self, tmp_path: Path):
        (tmp_path / "progress.json").write_text(
            json.dumps({"population": "p", "published": 1, "decided": 0, "asked": "", "run": ""})
        )

        progress = RunProgress(tmp_path, "p", NOW)
        assert (progress.views, progress.definitions) == (None, None)


class ModelsOfOneRun:
    """Served models of which the champion fits if `run` is given."""

    def __init__(self, run: str | None) -> None:
        self._run = run

    def champion_run(self, definition_hash: str) -> str | None:
        assert definition_hash == DEFINITIONS.hash
        return self._run


class TestAdoption:
    @pytest.fixture
    def filled(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the views that a test fills."""
        names: list[str] = []

        def fill(view: FeatureView, _state: Path) -> dict[str, int]:
            names.append(view.name)
            return {"events": 1, "items": 1, "compared": 1}

        monkeypatch.setattr(demo_run, "backfill", fill)
        return names

    @pytest.fixture
    def demo_with(self, tmp_path: Path) -> Callable[[str | None], Demo]:
        """A demo on a state, whose champion was trained by this run on the current definitions (None: on others)."""
        names = ("MerchantsTableName", "RegistryTableName", "BundlesBucketName", "PromotionApproval")
        system: Any = SimpleNamespace(
            outputs=dict.fromkeys(names, "x"), folder=lambda name: tmp_path / name, flush=lambda: 0
        )

        def made(run: str | None) -> Demo:
            demo = Demo(system, SimulatedLender(customers=20), Console(quiet=True), NOW)
            demo.models = ModelsOfOneRun(run)  # type: ignore[assignment] # a double of the models
            return demo

        return made

    def test_a_champion_of_other_definitions_is_replaced_and_only_new_versions_are_filled(
        self, demo_with: Callable[[str | None], Demo], filled: list[str]
    ):
        demo, (first, *others) = demo_with(None), DEFINITIONS.views
        demo.progress.run, demo.progress.views = "r1", [*version_names(others), f"{first.name}@0"]

        demo.adopt_definitions()

        assert filled == [first.name]
        assert demo.progress.run == ""
        assert set(demo.progress.views) == set(version_names(DEFINITIONS.views))

    def test_a_state_that_did_not_record_its_views_is_complete_if_the_champion_fits(
        self, demo_with: Callable[[str | None], Demo], filled: list[str]
    ):
        demo = demo_with("r1")
        demo.progress.run = "r1"

        demo.adopt_definitions()

        assert (filled, demo.progress.run) == ([], "r1")
        assert demo.progress.views == version_names(DEFINITIONS.views)

    def test_a_change_that_is_taken_back_after_a_failed_run_needs_no_training(
        self, demo_with: Callable[[str | None], Demo], filled: list[str]
    ):
        demo = demo_with("r1")
        demo.progress.views = version_names(DEFINITIONS.views)
        demo.progress.train_again()

        demo.adopt_definitions()

        assert (filled, demo.progress.run) == ([], "r1")

    @pytest.mark.parametrize(
        ("requested_for", "left"), [(DEFINITIONS.hash, "r2"), ("other", ""), (None, "r2")]
    )
    def test_an_interrupted_first_run_continues_unless_the_definitions_changed_meanwhile(
        self,
        demo_with: Callable[[str | None], Demo],
        filled: list[str],
        requested_for: str | None,
        left: str,
    ):
        demo = demo_with(None)
        demo.progress.views = version_names(DEFINITIONS.views)
        demo.progress.requested_run, demo.progress.definitions = "r2", requested_for

        demo.adopt_definitions()

        assert (filled, demo.progress.requested_run) == ([], left)


def checkout() -> Checkout:
    return parse_checkout(json.dumps(body()).encode())


def query(name: str) -> PointInTimeQuery:
    return PointInTimeQuery(name, NOW, Application(checkout(), "mer_1"))


def failure(days_before: int) -> Event:
    at = NOW - days_before * 86_400_000
    return Event(f"e{days_before}", "payment.failed", at, {"customer": "ann", "merchant": "mer_1"}, {})


class TestRecomputedVectors:
    def test_each_decision_is_computed_by_the_definitions_of_its_model(self):
        earlier = lender_of(BEFORE)
        current = lender_of(AFTER, candidates=(BEFORE,))
        declared = declared_by_hash(current, {earlier.hash: earlier.features, "gone": ("other.count.1h",)})

        right, leaky = recompute(
            declared,
            [earlier.hash, current.hash, "gone"],
            [query("a"), query("b"), query("c")],
            [failure(3), failure(20), failure(-5)],
        )

        assert right == [(2.0,), (1.0, 2.0), None]
        assert leaky == [(3.0,), (2.0, 3.0), None]

    def test_definitions_that_are_no_longer_declared_are_left_out(self):
        earlier = lender_of(BEFORE)

        assert list(declared_by_hash(lender_of(AFTER), {earlier.hash: earlier.features})) == [
            lender_of(AFTER).hash
        ]


def row(name: str, definition_hash: str, values: list[float | None], label: int = 0) -> DecidedRow:
    record: dict[str, Any] = {
        "id": f"dec_{name}",
        "q": NOW,
        "request": body(),
        "merchant_id": "mer_1",
        "definition_hash": definition_hash,
        "vector": {"values": values},
        "outcome": "approved",
        "degraded": False,
        "score": 0.1,
    }
    return DecidedRow(name, label, 1.0, record)


def measured() -> Bundle:
    """A bundle with the figures that the report shows of its training."""
    metrics = {"auc_served": 0.7, "auc": 0.7, "n": 2, "bads": 1, "period_from": NOW}
    return replace(champion(), metrics=metrics, lineage={"as_of": "2027-01-01T00:00:00Z"})


class TestReport:
    def test_a_decision_without_declared_definitions_is_left_out_of_the_parity(self):
        rows = [row("a", "gone", [1.0]), row("b", "now", [1.0, None])]

        parity = compare(rows, [None, (1.0, math.nan)])
        assert (parity.vectors, parity.equal_vectors, parity.values) == (1, 1, 2)

    def test_decisions_of_an_earlier_model_alone_end_in_a_report(self, tmp_path: Path):
        rows = [row("a", "gone", [1.0], 0), row("b", "gone", [None], 1)]
        evidence = ReportEvidence(
            rows, {"1": [-1.0, 1.0]}, 7, [None, None], [None, None], {"gone": ("old.count.1h",)}, measured()
        )

        lines = list(report(evidence, tmp_path / "rows.jsonl", ["curl"]))

        assert [line for line in lines if line.startswith("earlier_definitions=2 ")]
        assert [line for line in lines if line.startswith("parity=n/a (")]
        assert [line for line in lines if line.startswith("auc_decided=1.0000 ")]
        exported = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        assert [each["vector"] for each in exported] == [{"old.count.1h": 1.0}, {"old.count.1h": None}]
        assert [each["vector_from_archive"] for each in exported] == [None, None]

    def test_a_report_of_the_current_definitions_says_nothing_of_earlier_ones(self, tmp_path: Path):
        values = [0.0] * len(DEFINITIONS.features)
        rows = [row("a", DEFINITIONS.hash, list(values)), row("b", DEFINITIONS.hash, list(values), 1)]
        vectors = [tuple(values), tuple(values)]
        names = {DEFINITIONS.hash: DEFINITIONS.features}
        evidence = ReportEvidence(rows, {"1": [-1.0, 1.0]}, 7, vectors, vectors, names, measured())

        text = "\n".join(report(evidence, tmp_path / "rows.jsonl", ()))

        assert "earlier_definitions" not in text
        assert "parity=100 (" in text
