"""The lender's declarations: complete, plausible, and fit for their platform."""

import math

import msgspec
import pytest

import lender
from candor import Checkout
from candor.decision import VALID_FOR
from candor.features.units import units
from candor.reasons import Catalogue
from lender.requests import ON_DEMAND

FEATURES = lender.DEFINITIONS.features
PROTECTED = (
    "race",
    "religion",
    "gender",
    "sex",
    "marital",
    "age",
    "ethnic",
    "nationality",
    "zip",
    "postcode",
)


CONSTRAINED = 18
"""Number of features with a monotone constraint: a glob takes in a new feature without a word."""


@pytest.fixture
def checkout() -> Checkout:
    return msgspec.convert(
        {
            "checkout_id": "chk_1",
            "merchant_order_id": "A-1",
            "country": "US",
            "currency": "USD",
            "total": 20_000,
            "items": [{"sku": "S", "unit_price": 20_000, "qty": 1}],
            "applicant": {"token": "app_tok_1"},
            "offer": {"product": "pay_in_4", "installments": 4, "period_days": 14, "finance_charge": 500},
        },
        Checkout,
    )


def request(name, checkout, **values):
    windows = {"customer_approvals.amount": "1h"}
    features = dict.fromkeys(FEATURES, 0.0)
    features |= {f"{name}.{windows.get(name, 'lifetime')}": value for name, value in values.items()}
    assert len(features) == len(FEATURES)
    return next(feature for feature in ON_DEMAND if feature.name == name).value(checkout, features)


def loans(**values):
    return {f"customer_loans.{name}": value for name, value in values.items()}


def repayments(**values):
    return {f"customer_repayments.{name}": value for name, value in values.items()}


def test_tens_of_features_in_several_views_with_names_of_their_own():
    views = len(lender.DEFINITIONS.views)
    assert 30 <= len(FEATURES) <= 80, f"the lender has {len(FEATURES)} features: set the bounds here"
    assert 5 <= views <= 15, f"the lender has {views} views: set the bounds here"
    assert len(set(FEATURES)) == len(FEATURES)


def test_no_feature_or_event_field_names_a_protected_basis():
    fields = {name for event in lender.DEFINITIONS.event_types.values() for name in event.fields}
    words = {word for name in [*FEATURES, *fields] for word in name.replace(".", "_").split("_")}
    assert not words & set(PROTECTED)


def test_every_event_type_is_remembered_somewhere():
    remembered = {name for view in lender.DEFINITIONS.views for name in view.event_types}
    missing = sorted(set(lender.DEFINITIONS.event_types) - remembered)
    assert not missing, f"no view counts {', '.join(missing)}: name it in a view, or remove it from EVENTS"


def test_money_and_days_of_the_label_come_with_its_origin():
    label = lender.DEFINITIONS.label
    assert label is not None
    assert {"checkout_id", "loan_id", label.due_field} <= set(
        lender.DEFINITIONS.event_types[label.origin].fields
    )
    assert "loan_id" in lender.DEFINITIONS.event_types[label.closed].fields


def test_approvals_are_counted_for_as_long_as_they_may_be_used():
    (view,) = (view for view in lender.DEFINITIONS.views if view.name == "customer_approvals")
    (window,) = {feature.window for feature in view.features}
    assert window.length == VALID_FOR


def test_what_a_burst_must_see_is_committed_with_the_decision():
    synchronous = {view.name for view in lender.DEFINITIONS.views if view.synchronous}
    assert synchronous == {"customer_checkouts", "customer_approvals"}, "name the synchronous views here"


def test_every_event_of_a_loan_or_a_payment_carries_its_loan():
    for name, event in lender.DEFINITIONS.event_types.items():
        if name.startswith(("loan.", "payment.")):
            assert not event.fields["loan_id"].optional


def test_every_feature_has_a_unit():
    bare = [name for name, unit in units(lender.DEFINITIONS).items() if not unit]
    assert not bare, f"{', '.join(bare)}: name the unit of the event's field or of the on-demand feature"


def test_every_feature_belongs_to_one_consumer_factor():
    catalogue = Catalogue(lender.REASONS, FEATURES)
    owners = {lender.REASONS[place].code for place in catalogue.factor_of}
    assert owners == {reason.code for reason in lender.REASONS if reason.features}


def test_directions_fit_the_features():
    directions = dict(zip(FEATURES, lender.MONOTONE.of(FEATURES), strict=True))
    constrained = sum(map(abs, directions.values()))
    assert constrained == CONSTRAINED, f"MONOTONE constrains {constrained} features: set CONSTRAINED"
    assert directions["customer_repayments.variance_days_late.lifetime"] == 0


def test_reasons_name_factors_without_thresholds_or_house_standards():
    factors = [reason.factor for reason in lender.REASONS]
    assert len(set(factors)) == len(factors)
    for reason in lender.REASONS:
        assert not any(character.isdigit() for character in reason.text)
        assert not any(word in reason.text.lower() for word in ("score", "internal", "policy", "standard"))


def test_a_request_is_measured_against_what_is_remembered(checkout):
    assert request("amount", checkout) == 20_000
    assert request("term_days", checkout) == 56
    assert request("finance_charge_rate", checkout) == 0.025
    assert request("amount_to_usual", checkout, **loans(mean_amount=10_000.0)) == 2.0
    assert (
        request("exposure", checkout, **loans(originated_amount=50_000.0, closed_amount=30_000.0)) == 40_000.0
    )
    pending = {"customer_approvals.amount": 5_000.0}
    assert request("exposure", checkout, **loans(originated_amount=50_000.0), **pending) == 75_000.0
    assert request("late_share", checkout, **repayments(late=1.0, paid=4.0)) == 0.25
    assert request("unpaid_installments", checkout, **repayments(due=4.0, paid=3.0, reversed=1.0)) == 2.0


def test_a_newcomer_has_no_ratios_and_owes_only_this_purchase(checkout):
    assert math.isnan(request("amount_to_usual", checkout, **loans(mean_amount=math.nan)))
    assert math.isnan(request("late_share", checkout))
    assert request("exposure", checkout) == 20_000
    assert request("unpaid_installments", checkout) == 0.0


OF_THE_REQUEST_ALONE = {"amount", "term_days", "finance_charge_rate"}
"""On-demand features that read no windowed feature."""


def test_what_cannot_be_read_is_never_a_number(checkout):
    unread = dict.fromkeys(FEATURES, math.nan)
    values = {feature.name: feature.value(checkout, unread) for feature in ON_DEMAND}
    known = {name for name, value in values.items() if not math.isnan(value)}
    assert known == OF_THE_REQUEST_ALONE, (
        f"{', '.join(sorted(known ^ OF_THE_REQUEST_ALONE))}: a feature of the request alone is named in "
        "OF_THE_REQUEST_ALONE, any other is None where a windowed feature is NaN"
    )
