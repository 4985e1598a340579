"""Reasons that are true of the applicant, and material."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import lender
from candor import Count, Entity, EventType, FeatureView, Monotone, OnDemand, Reason
from candor.contracts import parse_checkout
from candor.decision import parse_record, to_record
from candor.errors import DefinitionError
from candor.features.definitions import Definitions
from candor.features.no_events import inputs
from candor.features.vector import build, decode_items
from candor.model.bundle import Bundle
from candor.notice import render
from candor.principal_reasons import MIN_EFFECT, MIN_SHARE, PrincipalReasons, reason_basis, require_statements
from candor.reasons import MAX_REASONS, Catalogue, ReasonBasis
from candor.underwriting import LoadedBundle
from history.replay.as_decided import compared, differing, reassess
from tests.examples import examples
from tests.handlers.checkouts import checkout
from tests.reasons.naive import Applicant, naive_codes

GOLDEN = Path(__file__).with_name("golden") / "before"
NAN = math.nan
CUSTOMER = Entity("customer", "checkout.applicant.token")
PAID = EventType("payment.succeeded", [CUSTOMER])

FEATURES = (
    "loans.count.lifetime",
    "loans.mean_amount.lifetime",
    "loans.mean_days_late.lifetime",
    "tries.count.1h",
    "tries.count.7d",
    "request.amount",
    "request.amount_to_usual",
    "request.exposure",
    "request.unpaid",
)
REASONS = (
    Reason("H1", "The account is under review", "review"),
    Reason("R1", "Loans with us", "loans", ("loans.count.*", "request.exposure")),
    Reason("R2", "Payments made late", "late", ("loans.mean_days_late.*", "request.unpaid")),
    Reason("R3", "Recent applications", "tries", ("tries.*",)),
    Reason("R4", "Amount requested", "amount", ("request.amount",), absent=("request.exposure",)),
    Reason(
        "R5",
        "Amount compared with loans",
        "usual",
        ("loans.mean_amount.*", "request.amount_to_usual"),
    ),
    Reason("N1", "No history with us", "none", absent=("loans.*", "request.amount_to_usual")),
    Reason("N2", "History could not be read", "unread", unavailable=("loans.*", "tries.*", "request.*")),
)
BASIS = ReasonBasis(
    reference=(0.0,) * len(FEATURES),
    no_events=(0.0, None, None, 0.0, 0.0, None, None, None, None),
    adverse=(False, False, True, True, True, False, False, False, True),
    inputs=((), (), (), (), (), (), (1,), (0,), (0,)),
)
NEW = [0.0, NAN, NAN, 0.0, 0.0, 5_000.0, NAN, 5_000.0, 0.0]
RETURNING = [3.0, 4_000.0, 2.0, 1.0, 2.0, 5_000.0, 1.25, 9_000.0, 1.0]
READ = {"loans": "present", "tries": "present"}
ABSENT = {"loans": "absent", "tries": "absent"}


def chooser(reasons=REASONS, basis=BASIS, features=FEATURES, slope=1.0) -> PrincipalReasons:
    return PrincipalReasons(Catalogue(reasons, features), basis, slope)


def effects(contributions, values, states) -> dict[str, float]:
    return {
        effect.reason.code: round(effect.above, 9)
        for effect in chooser().attribution(contributions, values, states).effects
    }


def parts(**by_feature: float) -> list[float]:
    """Contributions by the feature's name with `__` for `.`, else 0."""
    named = {name.replace("__", "."): part for name, part in by_feature.items()}
    assert set(named) <= set(FEATURES)
    return [named.get(name, 0.0) for name in FEATURES]


def test_a_decline_has_a_reason_even_where_nothing_true_can_be_stated():
    unknown = [0.0, NAN, NAN, 0.0, 0.0, NAN, NAN, NAN, 0.0]
    contributions = parts(loans__count__lifetime=0.3, tries__count__7d=0.9)
    no_history = replace(REASONS[6], absent=("loans.*", "request.amount_to_usual", "request.exposure"))
    stated = chooser(
        reasons=(*REASONS[:4], replace(REASONS[4], absent=()), REASONS[5], no_history, REASONS[7])
    )
    assert stated.attribution(contributions, unknown, {"loans": "stale"}).effects == []
    assert stated.codes(contributions, unknown, {"loans": "stale"}) == ["R3"]


# Material


def test_a_reason_is_named_from_the_floor_and_the_share_on():
    big = parts(request__amount=1.0, tries__count__7d=MIN_SHARE * 1.2, loans__count__lifetime=0.03)
    assert chooser().codes(big, RETURNING, READ) == ["R4", "R3"]
    small = parts(request__amount=0.2, tries__count__7d=MIN_EFFECT * 0.99)
    assert chooser().codes(small, RETURNING, READ) == ["R4"]
    small = parts(request__amount=0.2, tries__count__7d=MIN_EFFECT)
    assert chooser().codes(small, RETURNING, READ) == ["R4", "R3"]


def test_the_floor_is_of_calibrated_log_odds():
    contributions = parts(request__amount=0.05, tries__count__7d=0.02)
    assert chooser().codes(contributions, RETURNING, READ) == ["R4"]
    assert chooser(slope=5.0).codes(contributions, RETURNING, READ) == ["R4", "R3"]


def test_the_strongest_is_named_where_none_is_material_and_the_nearest_where_none_raised_the_risk():
    assert chooser().codes(parts(request__amount=0.01, tries__count__7d=0.02), RETURNING, READ) == ["R3"]
    assert chooser().codes(parts(request__amount=-0.5, tries__count__7d=-0.2), RETURNING, READ) == ["R3"]


def test_what_no_reason_states_counts_in_the_total():
    never_late = [*RETURNING]
    never_late[2], never_late[8] = NAN, 0.0
    contributions = parts(loans__mean_days_late__lifetime=9.0, request__amount=0.5)
    attribution = chooser().attribution(contributions, never_late, READ)
    assert attribution.unstated == pytest.approx(9.0)
    assert attribution.unstated_share == pytest.approx(9.0 / 9.5)
    assert attribution.codes() == ["R4"]


# True


def test_a_new_applicant_is_given_no_history_in_place_of_what_there_is_not():
    contributions = parts(
        loans__count__lifetime=0.3, loans__mean_amount__lifetime=0.1, request__amount_to_usual=0.4,
        request__exposure=0.2, request__amount=0.1, tries__count__7d=5.0,
    )  # fmt: skip
    assert effects(contributions, NEW, ABSENT) == {"R4": 0.3, "N1": 0.8}
    assert chooser().codes(contributions, NEW, ABSENT) == ["N1", "R4"]


def test_a_count_of_nothing_adverse_never_raises_the_risk_but_may_lower_it():
    once = [*RETURNING]
    once[3], once[4] = 0.0, 2.0
    assert effects(parts(tries__count__1h=0.9, tries__count__7d=0.1), once, READ)["R3"] == 0.1
    assert effects(parts(tries__count__1h=-0.9, tries__count__7d=0.1), once, READ)["R3"] == -0.8


def test_paying_early_is_no_late_payment():
    early = [*RETURNING]
    early[2], early[8] = -3.0, -1.0
    contributions = parts(loans__mean_days_late__lifetime=2.0, request__unpaid=1.0, request__amount=0.1)
    assert chooser().codes(contributions, early, READ) == ["R4"]


def test_an_unavailable_view_gives_no_reason_but_that_it_could_not_be_read():
    unread = [NAN, NAN, NAN, 1.0, 2.0, 5_000.0, NAN, NAN, NAN]
    states = {"loans": "unavailable", "tries": "present"}
    contributions = parts(
        loans__count__lifetime=0.3, request__amount_to_usual=0.3, request__unpaid=0.1, tries__count__7d=0.5
    )
    assert effects(contributions, unread, states) == {"R3": 0.5, "R4": 0.0, "N2": 0.7}
    assert chooser().codes(contributions, unread, states) == ["N2", "R3"]


def test_nobody_says_that_a_stale_item_holds_nothing():
    stale = {"loans": "stale", "tries": "present"}
    contributions = parts(loans__count__lifetime=0.3, request__amount=0.1)
    assert chooser().codes(contributions, NEW, stale) == ["R4"]


def test_the_reference_moves_with_the_feature():
    basis = replace(BASIS, reference=(0.25, *BASIS.reference[1:]))
    attribution = chooser(basis=basis).attribution(parts(loans__count__lifetime=0.5), NEW, ABSENT)
    [no_history] = [effect for effect in attribution.effects if effect.reason.code == "N1"]
    assert (no_history.part, no_history.reference) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("left_out", "complaint"),
    [("N2", '"loans.count.lifetime" could not be read'), ("N1", 'where "loans.count.lifetime" has no event')],
)
def test_a_catalogue_without_a_true_reason_for_every_applicant_is_refused(left_out, complaint):
    kept = [reason for reason in REASONS if reason.code != left_out]
    with pytest.raises(DefinitionError, match=complaint):
        require_statements(Catalogue(kept, FEATURES), BASIS)


def test_a_basis_of_other_features_is_refused():
    with pytest.raises(ValueError, match="one value per feature"):
        replace(BASIS, reference=(0.0,))


number = st.integers(-16, 16).map(
    lambda eighths: eighths / 8
)  # exact in any order of summation: ties are ties
value = st.sampled_from([0.0, NAN, -1.0, 2.0])
state = st.sampled_from(["present", "absent", "stale", "unavailable"])


@examples(400)
@given(
    st.lists(number, min_size=len(FEATURES), max_size=len(FEATURES)),
    st.lists(value, min_size=len(FEATURES), max_size=len(FEATURES)),
    st.lists(number, min_size=len(FEATURES), max_size=len(FEATURES)),
    st.fixed_dictionaries({"loans": state, "tries": state}),
)
def test_the_choice_is_that_of_a_plain_reading(contributions, values, references, states):
    for index, name in enumerate(FEATURES):
        if states.get(name.split(".")[0]) == "unavailable":
            values[index] = NAN
    basis = replace(BASIS, reference=tuple(references))
    applicant = Applicant(REASONS, FEATURES, basis, values, states)
    codes = chooser(basis=basis).codes(contributions, values, states)
    expected = naive_codes(applicant, contributions, MIN_EFFECT, MIN_SHARE)
    assert 1 <= len(codes) <= MAX_REASONS
    if expected:
        assert codes == expected
    else:
        assert not any(applicant.owner(name) for name in FEATURES), "nothing true can be stated"


# The lender


def request() -> object:
    return parse_checkout(json.dumps(checkout(20_000)).encode())


def lenders() -> PrincipalReasons:
    features = lender.DEFINITIONS.features
    basis = reason_basis(lender.DEFINITIONS, lender.MONOTONE, (0.0,) * len(features))
    return PrincipalReasons(Catalogue(lender.REASONS, features), basis, 1.0)


def test_the_lender_has_a_true_reason_for_every_applicant():
    features = lender.DEFINITIONS.features
    basis = reason_basis(lender.DEFINITIONS, lender.MONOTONE, (0.0,) * len(features))
    assert require_statements(Catalogue(lender.REASONS, features), basis) is None  # it raises otherwise


@pytest.mark.parametrize("feature", lender.DEFINITIONS.features)
def test_no_reason_of_the_lender_states_events_that_a_new_applicant_has_not(feature):
    """The reason is of the request, or says that there is no history, whichever feature raised the risk."""
    definitions: Definitions = lender.DEFINITIONS
    vector = build(definitions, decode_items(definitions, {}, {}), {}, request(), 1)
    contributions = [float(name == feature) for name in definitions.features]
    states = dict.fromkeys(vector.states, "absent")
    [code, *others] = lenders().codes(contributions, list(vector.values), states)
    assert not others
    assert code in {"R07", "R08", "N01", "N02", "N03", "N04"}


def test_what_an_on_demand_feature_reads_is_seen_in_either_branch():
    definitions = lender.DEFINITIONS
    read = dict(zip(definitions.features, inputs(definitions), strict=True))
    names = {name: {definitions.features[index] for index in read[name]} for name in read}
    assert names["request.exposure"] == {
        "customer_loans.originated_amount.lifetime",
        "customer_loans.closed_amount.lifetime",
        "customer_approvals.amount.1h",
    }
    assert names["request.late_share"] == {
        "customer_repayments.late.lifetime",
        "customer_repayments.paid.lifetime",
    }
    assert not names["request.amount"] | names["request.term_days"] | names["customer_loans.closed.lifetime"]
    branches = OnDemand("either", lambda _, f: f["a.count.1h"] and f.get("a.count.7d"))
    small = Definitions(
        entities=[CUSTOMER],
        events=[PAID],
        views=[FeatureView("a", CUSTOMER, [PAID], [Count()], ["1h", "7d"])],
        on_demand=[branches, OnDemand("fails", lambda _, f: f["nothing"])],
    )
    assert inputs(small) == ((), (), (0, 1), ())


# Older bundles


def test_records_of_before_replay_to_the_same_bytes_and_their_notices_are_rendered():
    bundle = Bundle.from_bytes((GOLDEN / "bundle.json").read_bytes())
    assert bundle.to_bytes() == (GOLDEN / "bundle.json").read_bytes()
    assert bundle.reason_basis is None
    model = LoadedBundle(bundle.sha, bundle)
    for record in (GOLDEN / "records.jsonl").read_bytes().splitlines():
        decision = parse_record(record)
        assert to_record(decision) == record
        assessment = reassess(decision, model, model.policy, bundle.features)
        assert not differing(compared(decision, assessment, model.policy.hash))
        text = render(decision, bundle.reasons, lender.REGULATION_PROFILE)
        assert decision.request.merchant_order_id in text
        assert "consumer report" not in text


def test_directions_of_adverse_features_rise():
    names = ("loans.late.30d", "loans.paid.30d", "loans.left.30d")
    monotone = Monotone(adverse=("loans.late.*",), falling=("loans.paid.*",))
    assert monotone.of(names) == (1, -1, 0)
    assert monotone.counts_adverse(names) == (True, False, False)
    with pytest.raises(DefinitionError, match="both rise and fall"):
        Monotone(adverse=("loans.late.*",), falling=("loans.late.*",)).of(names)


@pytest.mark.parametrize(
    ("feature", "needs"),
    [
        ("loans.count.lifetime", True),
        (
            "loans.mean_days_late.lifetime",
            True,
        ),  # adverse, but missing without a payment: that may raise the risk
        ("tries.count.7d", False),
        ("request.amount", False),
        ("request.amount_to_usual", True),
        ("request.unpaid", False),
    ],
)
def test_a_feature_needs_a_reason_for_its_absence_unless_none_of_it_cannot_raise_the_risk(feature, needs):
    others = tuple(name for name in FEATURES if name not in (feature, "tries.count.7d"))
    reasons = [replace(r, absent=others) if r.code == "N1" else r for r in REASONS]
    catalogue = Catalogue(reasons, FEATURES)
    if not needs:
        require_statements(catalogue, BASIS)
        return
    with pytest.raises(DefinitionError, match=f'where "{feature}" has no event'):
        require_statements(catalogue, BASIS)
