"""The policy of a bundle, apart from its model: the decision table and the reasons of its hard rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import msgspec
from msgspec import structs

from candor.errors import PolicyError
from candor.model.bundle import Bundle, sha256
from candor.policy import table_hash
from candor.reasons import Reason


class PolicyDocument(msgspec.Struct, frozen=True, dict=True):
    """A decision table with the `reasons` of its hard rules, those without features.

    The other reasons belong to the model.
    """

    policy: Mapping[str, Any]
    reasons: tuple[Reason, ...]

    @classmethod
    def of(cls, policy: Mapping[str, Any], reasons: Iterable[Reason]) -> PolicyDocument:
        """The document of a table and a catalogue of reasons."""
        return cls(dict(policy), tuple(reason for reason in reasons if not reason.of_model))

    @classmethod
    def in_bundle(cls, bundle: Bundle) -> PolicyDocument:
        """The document of a bundle."""
        return cls.of(bundle.policy, bundle.reasons)

    @classmethod
    def from_bytes(cls, data: bytes, digest: str | None = None) -> PolicyDocument:
        """Parse a stored document. Raises PolicyError if it is none, or not the one named `digest`."""
        try:
            document = msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise PolicyError(f"not a stored policy: {error}") from error
        if digest is not None and document.digest != digest:
            raise PolicyError(f"the stored policy is not {digest[:12]}: restore its file")
        return document

    def to_bytes(self) -> bytes:
        """Canonical bytes: keys sorted, no spaces."""
        reasons = [reason.to_json() for reason in self.reasons]
        return msgspec.json.encode({"policy": dict(self.policy), "reasons": reasons}, order="sorted")

    @cached_property
    def digest(self) -> str:
        """Name of the document: SHA-256 (hex) of its canonical bytes."""
        return sha256(self.to_bytes())

    @cached_property
    def hash(self) -> str:
        """Hash of the table, as every decision records it."""
        return table_hash(self.policy)

    def beside(self, reasons: Iterable[Reason]) -> tuple[Reason, ...]:
        """A model's reasons, followed by those of this document; `reasons` unchanged if they hold the same ones."""
        given = tuple(reasons)
        if tuple(reason for reason in given if not reason.of_model) == self.reasons:
            return given
        return (*(reason for reason in given if reason.of_model), *self.reasons)

    def applied_to(self, bundle: Bundle) -> Bundle:
        """The bundle with this policy; everything else in it stays. Equal input gives equal bytes."""
        return structs.replace(bundle, policy=dict(self.policy), reasons=self.beside(bundle.reasons))
