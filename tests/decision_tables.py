"""Compact decision tables for tests: one row per line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lender

OUTPUTS = ("rule", "outcome", "component", "reason")
LIMITS = ("limit", "installments", "charge_bps")


def row(
    name: str, outcome: str = "declined", component: str = "policy", reason: str | None = None, **when: str
) -> dict[str, str]:
    """A row that fires `when` every named input meets its condition."""
    return {
        "_id": name,
        **when,
        "rule": f'"{name}"',
        "outcome": f'"{outcome}"',
        "component": f'"{component}"',
        "reason": "null" if reason is None else f'"{reason}"',
    }


def table(
    rows: Sequence[Mapping[str, str]], inputs: Mapping[str, str], hit_policy: str = "collect"
) -> dict[str, Any]:
    """JDM graph of one table; `inputs` maps column ids to expressions. Limits are columns if a row has them."""
    outputs = [*OUTPUTS, *(name for name in LIMITS if any(name in row for row in rows))]
    content = {
        "hitPolicy": hit_policy,
        "inputs": [
            {"id": key, "name": key, "type": "expression", "field": text} for key, text in inputs.items()
        ],
        "outputs": [{"id": name, "name": name, "type": "expression", "field": name} for name in outputs],
        "rules": [dict(row) for row in rows],
    }
    kinds = {
        "in": ("inputNode", {}),
        "table": ("decisionTableNode", {"content": content}),
        "out": ("outputNode", {}),
    }
    nodes = [
        {"id": name, "type": kind, "name": name, "position": {"x": 0, "y": 0}, **more}
        for name, (kind, more) in kinds.items()
    ]
    edges = [
        {"id": f"{source}-{target}", "sourceId": source, "targetId": target, "type": "edge"}
        for source, target in (("in", "table"), ("table", "out"))
    ]
    return {"contentType": "application/vnd.gorules.decision", "nodes": nodes, "edges": edges}


def credit_policy() -> dict[str, Any]:
    """A whole table of a lender of the tests: limits in two currencies, prices, rules with and without a score."""
    text = Path(__file__).with_name("credit_policy.json").read_text(encoding="utf-8")
    policy: dict[str, Any] = json.loads(text)
    return policy


def limited(most: int) -> dict[str, Any]:
    """The lender's table with another limit on an amount in USD (cents)."""
    changed = lender.policy()
    [rows] = [node["content"]["rules"] for node in changed["nodes"] if node["type"] == "decisionTableNode"]
    next(row for row in rows if row["_id"] == "amount_limit_usd")["amount"] = f"> {most}"
    return changed
