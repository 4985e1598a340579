"""Bundles: complete, compatible with the code that reads them, and with one canonical form."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor import Count, Definitions, Entity, EventType, FeatureView, Reason
from candor.errors import BundleRefused
from candor.model.bundle import Bundle, Calibration, sha256
from candor.reasons import ReasonBasis

CUSTOMER = Entity("customer", "checkout.applicant.token")
PAID = EventType("payment.succeeded", [CUSTOMER])
DEFINITIONS = Definitions(
    entities=[CUSTOMER],
    events=[PAID],
    views=[FeatureView("customer", CUSTOMER, [PAID], [Count()], ["24h", "7d"])],
)


def bundle(**changes) -> Bundle:
    members = {
        "model": f"tree\nversion=v4\nfeature_names={' '.join(DEFINITIONS.features)}\n",
        "features": DEFINITIONS.features,
        "definition_hash": DEFINITIONS.hash,
        "calibration": Calibration(slope=1.1, intercept=-0.2),
        "cutoff": 0.2,
        "reason_reference": {"repayment": -0.25},
        "policy": {"nodes": []},
        "reasons": (Reason("R1", "Repayment of earlier loans é", "repayment", ("customer.*",)),),
        "metrics": {"auc": 0.7},
        "lineage": {"run": "r1"},
    }
    return Bundle(**(members | changes))


def test_what_is_written_is_read_back_and_spelled_the_same():
    data = bundle().to_bytes()
    again = Bundle.from_bytes(data, sha256(data))
    assert again.to_bytes() == data
    assert again.sha == sha256(data)
    assert again == bundle()
    assert b", " not in data.replace(b"earlier loans", b"")
    assert list(json.loads(data)) == sorted(json.loads(data))


def test_other_bytes_under_the_same_name_are_refused():
    data = bundle().to_bytes()
    with pytest.raises(BundleRefused, match="another SHA-256"):
        Bundle.from_bytes(data.replace(b"0.7", b"0.8"), sha256(data))


def test_a_basis_of_reasons_is_kept_and_its_absence_keeps_the_name_of_older_bundles():
    basis = ReasonBasis((0.25, -0.5), (0.0, None), (True, False), ((), (0,)))
    data = bundle(reason_basis=basis).to_bytes()
    assert Bundle.from_bytes(data).reason_basis == basis
    assert Bundle.from_bytes(data).to_bytes() == data
    assert b"reason_basis" not in bundle().to_bytes()


@pytest.mark.parametrize(
    "basis",
    [
        ReasonBasis((0.25,), (None,), (False,), ((),)),
        ReasonBasis((0.25, float("nan")), (None, None), (False, False), ((), ())),
        ReasonBasis((0.25, 0.5), (None, float("inf")), (False, False), ((), ())),
    ],
    ids=["of other features", "a reference that is no number", "no finite value"],
)
def test_a_faulty_basis_of_reasons_is_refused(basis):
    with pytest.raises(BundleRefused):
        bundle(reason_basis=basis)


def test_reasons_for_absent_and_unavailable_data_are_kept():
    reasons = (Reason("N1", "No history", "none", absent=("customer.*",), unavailable=("request.*",)),)
    again = Bundle.from_bytes(bundle(reasons=reasons).to_bytes())
    assert again.reasons == reasons
    assert b'"absent"' not in bundle().to_bytes()


DAMAGES = {
    "another format": lambda members: members.update(format=2),
    "a member missing": lambda members: members.pop("cutoff"),
    "a member too many": lambda members: members.update(extra=1),
    "columns in another order": lambda members: members.update(features=members["features"][::-1]),
    "a cut-off above 1": lambda members: members.update(cutoff=1.5),
    "a cut-off that is text": lambda members: members.update(cutoff="0.5"),
    "a falling calibration": lambda members: members["calibration"].update(slope=-1.0),
    "half a calibration": lambda members: members["calibration"].pop("slope"),
    "a hash that is a truth": lambda members: members.update(definition_hash=True),
    "a hash that is a number": lambda members: members.update(definition_hash=-1),
    "no reference": lambda members: members["reason_reference"].update(repayment=None),
    "half a reason": lambda members: members.update(reasons=[{"code": "R"}]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused(damage):
    members = json.loads(bundle().to_bytes())
    DAMAGES[damage](members)
    with pytest.raises(BundleRefused):
        Bundle.from_bytes(json.dumps(members).encode())


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b"null", b"{}"], ids=["empty", "list", "binary", "null", "object"]
)
def test_what_is_no_bundle_is_refused(data):
    with pytest.raises(BundleRefused):
        Bundle.from_bytes(data)


def test_a_bundle_serves_only_its_own_definitions():
    bundle().require(DEFINITIONS)
    other = Definitions(
        entities=[CUSTOMER],
        events=[PAID],
        views=[FeatureView("customer", CUSTOMER, [PAID], [Count()], ["24h"])],
    )
    with pytest.raises(BundleRefused, match=r"customer.count.7d"):
        bundle().require(other)
    with pytest.raises(BundleRefused, match="retrain"):
        bundle(definition_hash="0" * 64).require(DEFINITIONS)


def test_nan_has_no_canonical_form():
    with pytest.raises(ValueError, match="Out of range"):
        bundle(metrics={"auc": math.nan}).to_bytes()


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0.01, 100), st.floats(-100, 100))
def test_a_probability_is_one_for_every_raw_score(raw, slope, intercept):
    assert 0.0 <= Calibration(slope=slope, intercept=intercept).probability(raw) <= 1.0


def test_the_probability_is_the_logistic_function():
    assert bundle(calibration=Calibration(slope=2.0, intercept=1.0)).score(0.25) == 1 / (1 + math.exp(-1.5))
    assert bundle(calibration=Calibration(slope=2.0, intercept=-1.0)).score(0.25) == pytest.approx(
        1 / (1 + math.exp(0.5))
    )
