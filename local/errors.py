"""Errors of the local system; every message is one line and names the remedy."""

from __future__ import annotations


class LocalError(Exception):
    """The local system cannot start or go on."""


class UnknownResource(LocalError):
    """A template declares a resource type that the local system neither runs nor acknowledges."""

    def __init__(self, kind: str, logical_id: str, stack: str, detail: str = "") -> None:
        reason = f": {detail}" if detail else ""
        super().__init__(
            f"{kind} ({logical_id} in stack {stack}) is not known to the local system{reason}; "
            "add it to local/deployment/provisioner.py, or list it in ACKNOWLEDGED there with the reason"
        )


class TemplateError(LocalError):
    """The assembly cannot be read or resolved."""


class StateInUse(LocalError):
    """Another local system holds the state folder."""


class StateMismatch(LocalError):
    """The state folder was written by another version or definition of the system."""


class PortBusy(LocalError):
    """The gateway's port is in use."""
