"""The lender's policy: a GoRules decision table beside this file, editable in the GoRules editor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).with_name("policy.json")


def policy() -> dict[str, Any]:
    """The table as JSON; every call gives a fresh copy, so a bundle can pin and edit its own."""
    table: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table
