"""A bundle: a model with everything that must match it, in one file named by its SHA-256."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import msgspec

from candor.errors import BundleRefused
from candor.features.definitions import Definitions
from candor.model.engine import LIGHTGBM, ScoringEngine, engine_named
from candor.reasons import Reason, ReasonBasis

FORMAT: Final = 1


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Platt scaling: PD = sigmoid(slope · raw + intercept), both in log odds."""

    slope: float
    intercept: float

    def probability(self, raw: float) -> float:
        """Probability that the checkout turns bad. Equal bits on every machine (`math` only); never overflows."""
        odds = self.slope * raw + self.intercept
        if odds >= 0.0:
            return 1.0 / (1.0 + math.exp(-odds))
        grown = math.exp(odds)
        return grown / (1.0 + grown)


class Bundle(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Model, calibration, cut-off, policy and reasons, served together.

    `model` is the text of a model that the scoring engine `engine` loads, `features` its columns in order; `cutoff` is the highest PD still approved;
    `reason_reference` holds the mean contribution (log odds) of each factor for applicants near the cut-off, and
    `reason_basis` what the choice of reasons rests on; without it, reasons are chosen as by bundles of before;
    `policy` is the zen decision table. Members must not be mutated: all decisions of a process share them.
    """

    model: str
    features: tuple[str, ...]
    definition_hash: str
    calibration: Calibration
    cutoff: float
    reason_reference: Mapping[str, float]
    policy: Mapping[str, Any]
    reasons: tuple[Reason, ...]
    metrics: Mapping[str, Any]
    lineage: Mapping[str, Any]
    engine: str = LIGHTGBM
    reason_basis: ReasonBasis | None = None

    @classmethod
    def from_bytes(cls, data: bytes, expected_sha: str | None = None) -> Bundle:
        """Parse a bundle file. BundleRefused if its SHA-256 is not `expected_sha`, or it is not a valid bundle."""
        if expected_sha is not None and sha256(data) != expected_sha:
            raise BundleRefused(
                f"bundle {expected_sha[:12]}: the bytes have another SHA-256; restore the file"
            )
        try:
            members = msgspec.json.decode(data)
            if not isinstance(members, dict) or members.pop("format", None) != FORMAT:
                raise BundleRefused(f"not a bundle of format {FORMAT}")
            return cls._from_members(members)
        except (
            msgspec.MsgspecError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
        ) as error:
            raise BundleRefused(f"not a bundle: {type(error).__name__}: {error}") from error

    @classmethod
    def _from_members(cls, members: dict[str, Any]) -> Bundle:
        members.setdefault("engine", LIGHTGBM)
        basis = members.setdefault("reason_basis", None)
        expected = set(cls.__struct_fields__)
        if set(members) != expected:
            raise BundleRefused(f"bundle members differ: {', '.join(sorted(set(members) ^ expected))}")
        members["calibration"] = Calibration(**members["calibration"])
        members["reasons"] = tuple(
            Reason(**{name: _frozen(value) for name, value in reason.items()})
            for reason in members["reasons"]
        )
        if basis is not None:
            members["reason_basis"] = ReasonBasis(**{name: _frozen(value) for name, value in basis.items()})
        members["features"] = tuple(members["features"])
        for name in ("reason_reference", "policy", "metrics", "lineage"):
            members[name] = MappingProxyType(dict(members[name]))
        return cls(**members)

    def to_bytes(self) -> bytes:
        """Canonical bytes: sorted keys, no spaces, UTF-8, no NaN. Equal bundles have equal bytes.

        LightGBM is not written as `engine`, nor a missing `reason_basis`: older bundles keep their SHA-256.
        """
        members = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.engine == LIGHTGBM:
            del members["engine"]
        members["format"] = FORMAT
        members["calibration"] = {"slope": self.calibration.slope, "intercept": self.calibration.intercept}
        members["reasons"] = [reason.to_json() for reason in self.reasons]
        if self.reason_basis is None:
            del members["reason_basis"]
        else:
            members["reason_basis"] = self.reason_basis.to_json()
        for name in ("reason_reference", "policy", "metrics", "lineage"):
            members[name] = dict(members[name])
        text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    @cached_property
    def sha(self) -> str:
        """The bundle's name: SHA-256 (hex) of its canonical bytes."""
        return sha256(self.to_bytes())

    def score(self, raw: float) -> float:
        """Probability that the checkout turns bad, from the model's raw score (log odds)."""
        return self.calibration.probability(raw)

    def load(self) -> ScoringEngine:
        """The model, loaded into its scoring engine. Raises ModelRefused, EngineUnavailable."""
        return engine_named(self.engine)(self.model)

    def require(self, definitions: Definitions) -> None:
        """BundleRefused unless the bundle was trained on exactly these definitions."""
        if self.features != definitions.features:
            differing = sorted(set(self.features) ^ set(definitions.features))
            raise BundleRefused(
                f"the bundle's features differ from the definitions ({', '.join(differing[:3]) or 'order'}): retrain"
            )
        if self.definition_hash != definitions.hash:
            raise BundleRefused(
                f"the bundle is of definitions {self.definition_hash[:12]}, this code of {definitions.hash[:12]}: retrain"
            )

    def trained_on(self, definitions: Definitions) -> Definitions:
        """Declarations that the bundle was trained on, from all versions. BundleRefused if they are missing."""
        trained = definitions.pinned(self.features, self.definition_hash)
        if trained is None:
            self.require(definitions)
        return trained or definitions

    def __post_init__(self) -> None:
        if engine_named(self.engine).columns(self.model) != self.features:
            raise BundleRefused("the model's columns are not the bundle's features")
        if not isinstance(self.definition_hash, str):
            raise BundleRefused("definition_hash must be a text")
        basis = self.reason_basis or ReasonBasis.empty(len(self.features))
        if len(basis.reference) != len(self.features):
            raise BundleRefused("the basis of the reasons is not of the bundle's features")
        numbers: tuple[Any, ...] = (
            *basis.reference,
            *(value for value in basis.no_events if value is not None),
            self.calibration.slope,
            self.calibration.intercept,
            self.cutoff,
            *self.reason_reference.values(),
        )
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise BundleRefused("calibration, cut-off and references of the reasons must be finite numbers")
        if self.calibration.slope <= 0.0 or not 0.0 < self.cutoff < 1.0:
            raise BundleRefused("the calibration's slope must be above 0 and the cut-off between 0 and 1")


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def sha256(data: bytes) -> str:
    """SHA-256 of `data` as hex."""
    return hashlib.sha256(data).hexdigest()
