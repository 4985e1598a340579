"""The whole checkout path: keys, one read, vector, score, policy, one conditional write, answer.

The decision record is the idempotency record: its id is a keyed hash of merchant, route and Idempotency-Key, and who
comes second answers with what is stored.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b32encode
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from candor.clock import DAY, HOUR, SECOND, Clock, Deadline, format_rfc3339
from candor.contracts import Application
from candor.errors import BundleRefused, InvalidInput, PolicyError, StoreUnavailable
from candor.features.vector import ABSENT, FeatureVector, build
from candor.features.views import Definitions
from candor.model.bundle import Bundle
from candor.model.engine import Booster
from candor.policy import Facts, Policy, Verdict
from candor.reasons import Catalogue
from candor.store.protocol import DecisionStore, StoredDecision

ROUTE = "POST /v1/decisions"
VALID_FOR = HOUR
"""How long an approval may be used."""

READ_SHARE = 0.5
"""Share of the deadline that the read may use: enough must stay to write the record."""


class Champion:
    """A bundle made ready to serve."""

    def __init__(self, sha: str, bundle: Bundle, definitions: Definitions) -> None:
        bundle.require(definitions)
        self.sha = sha
        self.bundle = bundle
        self.booster = Booster(bundle.model)
        self.policy = Policy(bundle.policy)
        self.catalogue = Catalogue(bundle.reasons, bundle.features)

    def reasons(self, values: Sequence[float]) -> list[str]:
        """Codes of the model's principal reasons against this applicant."""
        contributions = self.booster.contributions(values)[:-1]
        return self.catalogue.model_reasons(contributions, self.bundle.reason_reference)


class Attempt(msgspec.Struct, frozen=True):
    """One call: an application under an Idempotency-Key. ``replay_at`` (ms UTC) replaces the clock where that is allowed."""

    application: Application
    key: str
    replay_at: int | None = None

    @property
    def answer(decision: Decision) -> bytes:
    """The merchant's body: never a score, a reason or a feature."""
    checkout = decision.request
    approved = decision.outcome == "approved"
    return msgspec.json.encode(
        {
            "id": decision.id,
            "object": "decision",
            "outcome": decision.outcome,
            "approved_amount_max": checkout.total if approved else 0,
            "currency": checkout.currency,
            "expires_at": format_rfc3339(decision.q + VALID_FOR) if approved else None,
            "terms": {"product": checkout.offer.product, "installments": checkout.offer.installments},
            "next_action": None,
            "livemode": decision.livemode,
        }
    )
