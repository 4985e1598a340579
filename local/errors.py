"""What can go wrong before the local system is ready; every message is one line and names the remedy."""

from __future__ import annotations


class LocalError(Exception):
    """The local system cannot start or go on."""


class UnknownResource(LocalError):
    """A template declares something that the local system neither runs nor is told to acknowledge."""

    def __init__(self, kind: str, logical_id: str, stack: str, detail: str = "") -> None:
        what = f": {detail}" if detail else ""
        super().__init__(
            f"{kind} ({logical_id} in stack {stack}) is not known to the local system{what}; "
            "teach local/deployment/provisioner.py to start it, or list it in ACKNOWLEDGED with its reason"
        )


class TemplateError(LocalError):
    """The assembly cannot be read or resolved."""


class StateInUse(LocalError):
    """Another local system holds the state folder."""


class StateMismatch(LocalError):
    """The state folder was written by another definition of the system."""


class PortBusy(LocalError):
    """The port the gateway should serve on is taken."""
