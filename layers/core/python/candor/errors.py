"""Errors that callers tell apart. Everything else is a bug and may propagate."""

from __future__ import annotations


class CandorError(Exception):
    """Base of every error this library raises on purpose."""


class DefinitionError(CandorError):
    """A declaration is wrong: a name clash, an unknown field, an impossible window."""


class InvalidInput(CandorError):
    """Input from outside breaks the contract.

    `code` is stable and machine readable, `field` is the JSON path of the culprit or None.
    Messages never repeat the offending value: it may be personal data.
    """

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(f"{code}: {detail}" + (f" ({field})" if field else ""))
        self.code = code
        self.detail = detail
        self.field = field


class StoreUnavailable(CandorError):
    """The store did not answer inside its deadline, or refused. Retrying later is safe."""


class CorruptItem(CandorError):
    """A stored item cannot be decoded, or was written under another definition."""


class BundleRefused(CandorError):
    """A bundle fails its integrity check or belongs to other definitions."""


class PolicyError(CandorError):
    """A policy table cannot be evaluated: the bundle that carries it must not serve."""
