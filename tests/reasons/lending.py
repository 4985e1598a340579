"""The lender of this repository with a model of its own: applications of every kind, assessed as in service."""

from __future__ import annotations

import json
import math
import random
from functools import lru_cache
from typing import Any

import lender
from candor.contracts import Checkout, parse_checkout
from candor.features.vector import FeatureVector
from candor.policy import Policy
from candor.underwriting import Assessment, LoadedBundle, assess
from tests.handlers.checkouts import checkout
from tests.trained import train

FEATURES = lender.DEFINITIONS.features
DRIVERS = {
    "customer_repayments.late.lifetime": 5.0,
    "request.exposure": 250_000.0,
    "customer_failures.count.30d": 4.0,
}
TEXTS = {reason.code: reason.text for reason in lender.REASONS}
POLICY_CODES = {reason.code for reason in lender.REASONS if not reason.of_model}
MODEL_CODES = set(TEXTS) - POLICY_CODES
STATES = dict.fromkeys((view.name for view in lender.DEFINITIONS.views), "present")


@lru_cache(maxsize=4)
def bundle(seed: int = 7):
    return train(lender.DEFINITIONS, lender.policy(), lender.REASONS, DRIVERS, seed, lender.MONOTONE)


@lru_cache(maxsize=4)
def model(seed: int = 7) -> LoadedBundle:
    loaded = bundle(seed)
    return LoadedBundle(loaded.sha, loaded)


@lru_cache(maxsize=1)
def fallback() -> Policy:
    return Policy(lender.policy())


def requested(total: int = 4_000, installments: int = 4, finance_charge: int = 0, **changes: Any) -> Checkout:
    offer = {
        "product": "pay",
        "installments": installments,
        "period_days": 14,
        "finance_charge": finance_charge,
    }
    return parse_checkout(json.dumps(checkout(total, offer=offer, **changes)).encode())


def assessment_of(
    values: list[float], request: Checkout | None = None, seed: int = 7, **changes: Any
) -> Assessment:
    vector = FeatureVector(values, {**STATES, **changes.pop("states", {})}, {})
    by = changes.pop("by", model(seed))
    policy = changes.pop("policy", by.policy if by else fallback())
    names = by.bundle.features if by else FEATURES
    return assess(by, policy, request or requested(), names, vector, **changes)


def row(rng: random.Random, **known: float) -> list[float]:
    """Values as a returning customer may have them, some missing."""
    values = {name: math.nan if rng.random() < 0.1 else rng.uniform(0.0, 10.0) for name in FEATURES}
    values |= {
        name: 0.0 for name in FEATURES if name.startswith(("customer_account.", "customer_loans.charged"))
    }
    values |= {name: rng.uniform(0.0, top) for name, top in DRIVERS.items()}
    values |= {"customer_loans.originated.lifetime": 3.0, "request.unpaid_installments": 0.0} | known
    return [values[name] for name in FEATURES]


def harmless(rng: random.Random, **known: float) -> list[float]:
    """Values against which no hard rule has anything; the score may."""
    quiet = {
        "customer_failures.count.30d": 0.0,
        "customer_checkouts.count.24h": 0.0,
        "device_sharing.distinct_applicant.24h": 1.0,
    }
    return row(rng, **(quiet | known))
