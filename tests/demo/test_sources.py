"""Sources: their events and checkouts are valid, in time order, reproducible, and never ahead of what was known."""

import csv
import itertools
import json
import os
from collections import Counter
from pathlib import Path

import pytest

import lender
from candor.clock import DAY, parse_rfc3339
from candor.contracts import parse_checkout, parse_event
from demo.sources.base import SourceCheckout, SourceError, moment
from demo.sources.folder import from_folder
from demo.sources.simulated import DECIDED as DECIDED_FOR
from demo.sources.simulated import ENDS, RECORDED, SimulatedLender

FAR_AHEAD = 2**52
EARLIER, DECIDED = "trainprevloans.csv", "trainperf.csv"
REPOSITORY = Path(__file__).parents[2]
LABEL = lender.DEFINITIONS.label


def split(timeline):
    items = list(timeline)
    checkouts = [item for item in items if isinstance(item, SourceCheckout)]
    return [item for item in items if not isinstance(item, SourceCheckout)], checkouts


def place(item):
    return (item.q_ms, 0) if isinstance(item, SourceCheckout) else (moment(item)[0], 1)


def assert_sound(source):
    """Assert the invariants of every source."""
    history = list(source.history())
    later, checkouts = split(source.timeline())
    events = history + later
    assert checkouts == list(source.checkouts())
    assert checkouts
    assert history == sorted(history, key=moment)
    assert all(moment(event)[0] < source.as_of for event in history)
    steps = [place(item) for item in source.timeline()]
    assert steps == sorted(steps)
    assert steps[0][0] >= source.as_of
    assert not [event for event in later if event["type"] == "checkout.decided"], (
        "the platform reports its own"
    )
    for event in events:
        lender.DEFINITIONS.check_event(parse_event(json.dumps(event).encode()), FAR_AHEAD)
    for checkout in checkouts:
        lender.ACCEPTANCE.check(parse_checkout(json.dumps(checkout.body).encode()))
        assert checkout.merchant in source.merchants
    for ids in ([event["event_id"] for event in events], [checkout.id for checkout in checkouts]):
        assert len(set(ids)) == len(ids)


def labels_from(events):
    """Labels of loans by the lender's own definition, from events alone; None while open before the last due date."""
    closed = {e["data"]["loan_id"]: moment(e)[0] for e in events if e["type"] == LABEL.closed}
    return {
        e["data"]["checkout_id"]: closed.get(e["data"]["loan_id"], FAR_AHEAD)
        > e["data"][LABEL.due_field] + LABEL.grace_ms
        for e in events
        if e["type"] == LABEL.origin
    }


@pytest.fixture(scope="module")
def simulated():
    return SimulatedLender()


class TestSimulated:
    def test_is_sound(self, simulated):
        assert_sound(simulated)

    def test_default_size(self, simulated):
        assert 15_000 <= len(list(simulated.history())) <= 25_000
        checkouts = list(simulated.checkouts())
        assert 600 <= len(checkouts) <= 800
        known = [checkout.label for checkout in checkouts if checkout.label is not None]
        assert len(known) > 500
        assert 0.05 < sum(known) / len(known) < 0.25

    def test_seed_and_size_decide_everything(self):
        def drawn(**kwargs):
            source = SimulatedLender(customers=40, **kwargs)
            return list(source.history()), list(source.timeline())

        assert drawn(seed=3) == drawn(seed=3)
        assert drawn(seed=3) != drawn(seed=4)

    @pytest.mark.parametrize("ends", ["2026-02-11T10:00:00Z", "2027-11-30T23:59:59Z"])
    def test_its_timeline_ends_at_the_given_moment(self, ends):
        until = parse_rfc3339(ends)
        source = SimulatedLender(customers=200, ends=until)
        assert_sound(source)
        assert source.as_of == until - DECIDED_FOR
        last = place(list(source.timeline())[-1])[0]
        assert until - 2 * DAY < last < until
        assert next(source.checkouts()).q_ms < source.as_of + 2 * DAY

    def test_labels_become_known_while_it_decides(self, simulated):
        """Loans of the first days have come to their last due date and its grace before the timeline ends."""
        later, checkouts = split(simulated.timeline())
        final = {
            e["data"]["checkout_id"]: e["data"][LABEL.due_field] for e in later if e["type"] == LABEL.origin
        }
        mature = [c for c in checkouts if final.get(c.body["checkout_id"], FAR_AHEAD) + LABEL.grace_ms < ENDS]
        assert len(mature) > 100

    def test_months_are_alike(self, simulated):
        """Customers come and go at one rate: later thirds have neither more checkouts nor older customers."""
        seen: Counter[str] = Counter()
        earlier_loans: list[list[int]] = [[], [], []]
        begins = simulated.as_of - RECORDED
        for event in simulated.history():
            if event["type"] == LABEL.origin:
                customer = event["entities"]["customer"]
                if moment(event)[0] >= begins:
                    earlier_loans[3 * (moment(event)[0] - begins) // RECORDED].append(seen[customer])
                seen[customer] += 1
        sizes = [len(third) for third in earlier_loans]
        means = [sum(third) / len(third) for third in earlier_loans]
        assert max(sizes) < 1.5 * min(sizes)
        assert max(means) < 1.4 * min(means)

    def test_more_customers_leave_the_others_as_they_are(self):
        small, large = (
            {event["event_id"] for event in SimulatedLender(customers=size).history()} for size in (20, 40)
        )
        assert small < large

    def test_smallest_lender_still_has_checkouts(self):
        assert_sound(SimulatedLender(customers=1, checkouts=3))

    @pytest.mark.parametrize("size", [{"customers": 0}, {"checkouts": 0}])
    def test_refuses_nothing_at_all(self, size):
        with pytest.raises(SourceError, match="at least one"):
            SimulatedLender(**size)

    def test_tells_every_kind_of_event(self, simulated):
        kinds = Counter(event["type"] for event in simulated.history())
        assert set(kinds) == set(lender.DEFINITIONS.event_types)

    def test_every_loan_of_the_history_was_approved_and_every_checkout_decided(self, simulated):
        history = list(simulated.history())
        decided, started, loans = (
            {e["data"]["checkout_id"]: e for e in history if e["type"] == kind}
            for kind in ("checkout.decided", "checkout.started", "loan.originated")
        )
        recorded = simulated.as_of - RECORDED
        by_books = {checkout_id for checkout_id, loan in loans.items() if moment(loan)[0] < recorded}
        assert len(by_books) > 500
        assert decided.keys() == started.keys() > loans.keys() - by_books
        for checkout_id in loans.keys() - by_books:
            loan = loans[checkout_id]
            assert decided[checkout_id]["data"]["approved_amount"] == loan["data"]["amount"]
            assert moment(decided[checkout_id])[0] == moment(loan)[0]
        amounts = Counter((e["data"]["outcome"], e["data"]["approved_amount"] > 0) for e in decided.values())
        assert amounts.keys() == {("approved", True), ("declined", False)}

    def test_labels_are_what_became_of_the_loans(self):
        source = SimulatedLender(customers=300)
        later, checkouts = split(source.timeline())
        end = moment(later[-1])[0]
        by_events = labels_from(later)
        mature = {
            e["data"]["checkout_id"]
            for e in later
            if e["type"] == LABEL.origin and e["data"][LABEL.due_field] + LABEL.grace_ms < end
        }
        labels = {c.body["checkout_id"]: c.label for c in checkouts}
        assert len(mature) > 50
        assert all(labels[checkout_id] == by_events[checkout_id] for checkout_id in mature)
        assert {c for c, label in labels.items() if label is not None} == set(by_events)

    def test_a_burst_of_strangers_shares_a_device_among_the_checkouts(self, simulated):
        by_device = {}
        for checkout in simulated.checkouts():
            device = checkout.body["device"]["fingerprint"]
            by_device.setdefault(device, set()).add(checkout.body["applicant"]["token"])
        assert max(len(tokens) for tokens in by_device.values()) >= 5


HEADER = "customerid systemloanid creationdate loanamount totaldue termdays".split()
EARLIER_HEADER = [*HEADER, "closeddate", "firstduedate", "firstrepaiddate"]
DECIDED_HEADER = [*HEADER, "good_bad_flag"]
LOAN = ("ada", "1", "2017-05-01 10:00:00.000000", "20000.0000", "23000.0000", "60")
ENDED = ("2017-07-03 09:00:00", "2017-05-31 00:00:00", "2017-06-02 06:30:00")
NOW = ("ada", "2", "2017-07-22 08:00:00", "30000.0", "34500.0", "30", "Bad")
JUST_BEFORE = ("bo", "3", "2017-07-21 23:59:59", "10000.0", "11500.0", "15", "Good")


def folder(where, earlier=((*LOAN, *ENDED),), decided=(NOW, JUST_BEFORE)):
    """Write a folder of synthetic rows in the form of the data."""
    for name, header, rows in ((EARLIER, EARLIER_HEADER, earlier), (DECIDED, DECIDED_HEADER, decided)):
        with (where / name).open("w", newline="", encoding="utf-8") as lines:
            csv.writer(lines).writerows([header, *rows])
    return where


class TestSuperLender:
    def test_is_sound(self, tmp_path):
        assert_sound(from_folder(folder(tmp_path)))

    def test_an_earlier_loan_becomes_events(self, tmp_path):
        events = list(from_folder(folder(tmp_path)).history())
        ada = {event["type"]: event for event in events if event["entities"]["customer"] == "ada"}
        assert {kind: event["occurred_at"] for kind, event in ada.items()} == {
            "checkout.started": "2017-05-01T10:00:00.000Z",
            "checkout.decided": "2017-05-01T10:00:00.000Z",
            "loan.originated": "2017-05-01T10:00:00.000Z",
            "payment.due": "2017-05-31T00:00:00.000Z",
            "payment.succeeded": "2017-06-02T06:30:00.000Z",
            "loan.closed": "2017-07-03T09:00:00.000Z",
        }
        decided = ada["checkout.decided"]["data"]
        assert (decided["outcome"], decided["approved_amount"]) == ("approved", 2_000_000)
        terms = ada["loan.originated"]["data"]
        assert (terms["amount"], terms["finance_charge"], terms["installments"]) == (2_000_000, 300_000, 2)
        assert terms["first_due_at"] == parse_rfc3339("2017-05-31T00:00:00Z")
        assert terms["final_due_at"] == terms["first_due_at"] + 30 * DAY
        assert ada["payment.succeeded"]["data"]["days_late"] == 2
        assert ada["payment.succeeded"]["data"]["amount"] == 1_150_000
        assert ada["loan.closed"]["data"]["days_late"] == 3

    def test_a_payment_nobody_knows_of_is_no_event(self, tmp_path):
        unpaid = (*LOAN, *ENDED[:2], "")
        kinds = {event["type"] for event in from_folder(folder(tmp_path, earlier=(unpaid,))).history()}
        assert "payment.succeeded" not in kinds
        assert "loan.closed" in kinds

    def test_only_the_last_days_are_decided_and_labelled(self, tmp_path):
        source = from_folder(folder(tmp_path))
        assert [(c.id, c.label, c.body["total"]) for c in source.checkouts()] == [("chk_2", 1, 3_000_000)]
        bo = [event["type"] for event in source.history() if event["entities"]["customer"] == "bo"]
        assert sorted(bo) == ["checkout.decided", "checkout.started", "loan.originated"]

    def test_no_event_carries_an_outcome_flag(self, tmp_path):
        source = from_folder(folder(tmp_path))
        later, _ = split(source.timeline())
        assert "good_bad_flag" not in json.dumps([*source.history(), *later])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({2: "yesterday"}, 'rows cannot be read: .*Line: 2, column "creationdate"'),
            ({3: "20000.001"}, r"event chk_1:checkout.* is refused: .*Expected an integer"),
            ({3: "-5"}, r"is refused: .*data\.checkout\.total"),
            ({1: ""}, "is refused: missing_field"),
        ],
    )
    def test_malformed_rows_are_refused(self, tmp_path, change, message):
        row = [change.get(index, value) for index, value in enumerate((*LOAN, *ENDED))]
        with pytest.raises(SourceError, match=message):
            from_folder(folder(tmp_path, earlier=(row,)))

    def test_a_file_that_is_missing_or_empty_is_named(self, tmp_path):
        with pytest.raises(SourceError, match="no checkout from 2017-07-22"):
            from_folder(folder(tmp_path, decided=(JUST_BEFORE,)))
        (tmp_path / EARLIER).unlink()
        with pytest.raises(SourceError, match="holds no data known here"):
            from_folder(tmp_path)

    def test_a_folder_may_bring_its_own_mapping(self, tmp_path):
        (tmp_path / "flags.csv").write_text("n,at,who\n1,2026-05-01 10:00:00,ann\n")
        mapping = tmp_path / "mapping.toml"
        event = """
[[event]]
type = "account.flagged"
id = "n"
occurred_at = "at"
entities.customer = "who"
data.flag = "'x'"
"""
        mapping.write_text(event)
        with pytest.raises(SourceError, match="names no moment with an offset"):
            from_folder(tmp_path)
        mapping.write_text("as_of = 2026-06-01T00:00:00Z\n" + event)
        with pytest.raises(SourceError, match="no checkout from 2026-06-01"):
            from_folder(tmp_path)

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        with pytest.raises(SourceError, match="holds no data known here"):
            from_folder(tmp_path)
        with pytest.raises(SourceError, match="is not a folder"):
            from_folder(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def real():
    data = Path(os.environ.get("CANDOR_DATA") or REPOSITORY.parent / "shared" / "data") / "superlender"
    if not data.is_dir():
        pytest.skip(f"no SuperLender data in {data}; CANDOR_DATA names the folder that holds superlender/")
    return from_folder(data)


class TestRealLoans:
    def test_are_sound(self, real):
        assert_sound(real)

    def test_population(self, real):
        checkouts = list(real.checkouts())
        assert len(checkouts) == 1338
        assert sum(checkout.label for checkout in checkouts) == 288
        days = {checkout.q_ms // DAY - real.as_of // DAY for checkout in checkouts}
        assert days == set(range(9))

    def test_late_closes_wait_for_their_day(self, real):
        later = [item for item in real.timeline() if not isinstance(item, SourceCheckout)]
        assert any(event["type"] == "loan.closed" for event in later)
        last = max(checkout.q_ms for checkout in real.checkouts())
        assert all(moment(event)[0] <= last for event in itertools.islice(reversed(later), 10))
