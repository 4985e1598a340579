"""Errors that callers handle. Any other exception is a bug and propagates."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class CandorError(Exception):
    """Base of all errors that this library raises."""


class DefinitionError(CandorError):
    """Invalid declaration: a name clash, an unknown field, an impossible window."""


class InvalidInput(CandorError):
    """External input violates the contract.

    `code` is stable and machine readable, `field` is the JSON path of the invalid member or None. `faults` are all
    faults of a refused body, this one first; empty where nothing but this was looked at.
    Messages never repeat the offending value: it may be personal data.
    """

    def __init__(
        self, code: str, detail: str, field: str | None = None, faults: Sequence[InvalidInput] = ()
    ) -> None:
        super().__init__(f"{code}: {detail}" + (f" ({field})" if field else ""))
        self.code = code
        self.detail = detail
        self.field = field
        self.faults = tuple(faults)


Report = Callable[[InvalidInput], None]
"""Callback of a check for each fault; `refuse` ends the check at the first."""


def refuse(fault: InvalidInput) -> None:
    """Raise the fault."""
    raise fault


class StoreUnavailable(CandorError):
    """The store did not answer within its deadline, or failed. Retrying is safe."""


class CorruptItem(CandorError):
    """A stored item cannot be decoded, or belongs to another definition."""


class BundleRefused(CandorError):
    """A bundle fails its integrity check or belongs to other definitions."""


class PolicyError(CandorError):
    """A policy table cannot be evaluated; a bundle with it must not serve."""


class EngineUnavailable(CandorError):
    """The library of a scoring engine, or a dependency of it, cannot be loaded; the message names the remedy."""


class ModelRefused(CandorError):
    """A scoring engine rejects the model, or a row has the wrong number of values."""
