"""The lender's policy: a GoRules decision table beside this file, editable in the GoRules editor."""

from __future__ import annotations

import json
import os
from typing import Any

_TABLE = os.path.join(os.path.dirname(__file__), "policy.json")  # noqa: PTH118, PTH120 - pathlib costs a cold start 3 ms


def policy() -> dict[str, Any]:
    """The table as JSON; every call returns a new copy, which a bundle may edit."""
    with open(_TABLE, encoding="utf-8") as file:  # noqa: PTH123 - as above
        table: dict[str, Any] = json.load(file)
    return table
