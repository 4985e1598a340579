"""Disclosure of consumer reports, 15 U.S.C. 1681m(a): a lender with a bureau's view, from event to notice."""

from __future__ import annotations

import json
from functools import lru_cache

import pytest
from msgspec import structs

from candor import (
    Agency,
    Count,
    CreditScore,
    Definitions,
    Entity,
    EventType,
    FeatureView,
    Integer,
    Last,
    LastCategory,
    OnDemand,
    Reason,
    Text,
    TimeSinceLast,
    type_is,
)
from candor.champion import Champions
from candor.clock import DAY, Deadline, FixedClock
from candor.contracts import Event
from candor.decision import Decision, parse_record, to_record
from candor.errors import DefinitionError
from candor.features.vector import UNAVAILABLE
from candor.ingest import ingest
from candor.notice import render
from candor.regulation import AdverseAction
from candor.store.memory import MemoryDecisionStore, MemoryFeatureStore
from candor.store.protocol import Snapshot
from tests.decide.lending import NOW, PROFILE, RETENTION, RISKY, SAFE, Shelf, attempt, decider
from tests.decision_tables import row, table
from tests.trained import train

CUSTOMER = Entity("customer", "checkout.applicant.token")
REPORTED = EventType(
    "bureau.reported",
    [CUSTOMER],
    {
        "score": Integer(optional=True),
        "factor": Text(optional=True),
        "second_factor": Text(optional=True),
        "inquiries_lowered": Integer(optional=True),
    },
)
PAID = EventType("payment.succeeded", [CUSTOMER])
CODES = ["38", "18"]
SCORE = CreditScore(
    value="score.lifetime",
    lowest=300,
    highest=850,
    age="since_report.lifetime",
    factors=("factor.lifetime", "second_factor.lifetime"),
    texts={"38": "Serious delinquency"},
    inquiries="inquiries.lifetime",
)
AGENCY = Agency("Test Bureau", "3 Test Street, Testville", "800-555-0100", SCORE)


def bureau(agency: Agency | None = AGENCY, *extra: Count) -> FeatureView:
    return FeatureView(
        "bureau",
        CUSTOMER,
        [REPORTED],
        [
            Last("score", name="score"),
            TimeSinceLast(where=type_is("bureau.reported"), name="since_report"),
            LastCategory("factor", CODES, name="factor"),
            LastCategory("second_factor", CODES, name="second_factor"),
            Last("inquiries_lowered", name="inquiries"),
            *extra,
        ],
        ["lifetime"],
        agency=agency,
    )


def definitions(agency: Agency | None = AGENCY) -> Definitions:
    return Definitions(
        entities=[CUSTOMER],
        events=[REPORTED, PAID],
        views=[bureau(agency), FeatureView("paid", CUSTOMER, [PAID], [Count()], ["30d"])],
        on_demand=[OnDemand("amount", lambda checkout, _: checkout.total)],
    )


REASONS = (
    Reason("R1", "Record at the credit bureau", "bureau", ("bureau.*",)),
    Reason("R2", "Earlier payments", "payments", ("paid.*",)),
    Reason("R3", "Amount requested", "amount", ("request.*",)),
    Reason("N1", "No payments yet", "no_payments", absent=("paid.*",)),
    Reason("N2", "No record at the credit bureau", "no_bureau", absent=("bureau.*",)),
    Reason("N3", "Records could not be read", "unread", unavailable=("bureau.*", "paid.*")),
)
TABLE = table([row("score", component="model", score="> cutoff")], {"score": "score"})


@lru_cache(maxsize=1)
def bundle():
    return train(definitions(), TABLE, REASONS, {"request.amount": 100_000.0})


def decide(total: int, *reports: Event, agency: Agency | None = AGENCY, unread: bool = False) -> Decision:
    """One checkout of this lender, NOW."""
    features, declared = MemoryFeatureStore(), definitions(agency)
    assert not ingest(reports, declared, features, FixedClock(NOW), RETENTION).refused
    store = (Unread if unread else MemoryDecisionStore)(features, bundle().sha)
    shelf, clock = Shelf(bundle()), FixedClock(NOW)
    scorer = decider(
        store,
        shelf,
        clock,
        definitions=declared,
        champions=Champions(declared, shelf, clock, shelf.failed),
        fallback_policy=TABLE,
    )
    decision = scorer.decide(attempt(total=total), Deadline(60.0)).decision
    assert decision is not None
    return decision


class Unread(MemoryDecisionStore):
    """A store that cannot read the bureau's items."""

    def read(self, keys, timeout_s, synchronous=()):
        snapshot = super().read(keys, timeout_s, synchronous)
        reads = {
            key: UNAVAILABLE if key.startswith("bureau") else read for key, read in snapshot.reads.items()
        }
        return Snapshot(reads, snapshot.champion, snapshot.views)


def reported(**data: object) -> Event:
    return Event("rep_1", "bureau.reported", NOW - 40 * DAY, {"customer": "ann"}, data)


FULL = reported(score=612, factor="38", second_factor="18", inquiries_lowered=1)
RIGHTS = (
    "consumer report from Test Bureau, 3 Test Street, Testville, 800-555-0100",
    "did not make this decision",
    "cannot give you its specific reasons",
    "free copy of your report",
    "within 60 days",
    "dispute with the agency the accuracy or completeness",
)


def notice(decision: Decision) -> str:
    return render(decision, REASONS, PROFILE)


def test_a_decline_that_used_a_report_discloses_agency_rights_and_score():
    text = notice(decide(RISKY, FULL))
    for part in (
        *RIGHTS,
        "your credit score from Test Bureau: 612, created on 2026-12-06",
        "from a low of 300 to a high of 850",
        "adversely affected it:\n- Serious delinquency\n- 18\n- Number of recent inquiries",
    ):
        assert part in text


def test_a_report_without_a_score_discloses_the_agency_alone():
    text = notice(decide(RISKY, reported(factor="38")))
    assert all(part in text for part in RIGHTS)
    assert "score" not in text


def test_only_recorded_key_factors_are_disclosed():
    text = notice(decide(RISKY, reported(score=612, factor="unknown to the lender")))
    assert "612" in text
    assert "Key factors" not in text
    assert "inquiries" not in text


def test_an_agency_without_a_declared_score_discloses_no_score():
    text = notice(decide(RISKY, FULL, agency=structs.replace(AGENCY, score=None)))
    assert all(part in text for part in RIGHTS)
    assert "612" not in text


@pytest.mark.parametrize("case", ["no report", "not read", "no agency"])
def test_where_no_report_was_used_none_is_disclosed(case):
    decision = {
        "no report": lambda: decide(RISKY),
        "not read": lambda: decide(RISKY, FULL, unread=True),
        "no agency": lambda: decide(RISKY, FULL, agency=None),
    }[case]()
    assert decision.outcome == "declined"
    assert decision.adverse_action.consumer_reports == ()
    assert b"consumer_reports" not in to_record(decision)
    assert "consumer report" not in notice(decision)


def test_the_record_holds_the_report_whatever_is_declared_later():
    decision = decide(RISKY, FULL)
    assert parse_record(to_record(decision)) == decision
    [kept] = json.loads(to_record(decision))["adverse_action"]["consumer_reports"]
    assert (kept["agency"], kept["score"]["value"], kept["score"]["inquiries"]) == ("Test Bureau", 612, True)
    assert notice(parse_record(to_record(decision))) == notice(decision)


def test_an_approval_records_no_report():
    decision = decide(SAFE, FULL)
    assert decision.outcome == "approved"
    assert decision.adverse_action is None


def test_an_agency_changes_no_value_and_no_key():
    assert bureau().version == bureau(None).version
    assert definitions().hash == definitions(None).hash


def test_a_notice_without_reports_has_the_bytes_of_before():
    assert json.loads(
        to_record(structs.replace(decide(RISKY), adverse_action=AdverseAction("declined", 2, 1)))
    )["adverse_action"] == {"kind": "declined", "due_at": 2, "remind_at": 1}


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        (lambda: bureau(structs.replace(AGENCY, score=structs.replace(SCORE, value="rating.30d"))), "rating.30d"),
        (lambda: bureau(structs.replace(AGENCY, score=structs.replace(SCORE, factors=("score.lifetime",)))), "LastCategory"),
        (lambda: bureau(structs.replace(AGENCY, score=structs.replace(SCORE, age="score.lifetime"))), "TimeSinceLast"),
        (lambda: CreditScore(value="a", lowest=850, highest=300), "lowest"),
        (lambda: CreditScore(value="a", lowest=1, highest=2, factors=tuple("abcde")), "at most 4"),
        (lambda: Agency("Test Bureau", " ", "1"), "an address"),
    ],
    ids=["unknown feature", "factor of a number", "age of a number", "range", "five factors", "no address"],
)  # fmt: skip
def test_a_faulty_declaration_is_refused_with_the_remedy(declared, complaint):
    with pytest.raises(DefinitionError, match=complaint):
        declared()
