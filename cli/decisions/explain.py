"""`candor decisions explain`: why a decision came out as it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from candor.decision import Decision
from candor.notice import render
from candor.underwriting import Judge
from cli.decisions.lookup import decision_of, judge_of
from cli.options import common
from cli.output import print_json, print_pairs
from cli.stage import Stage
from lender import REASONS, REGULATION_PROFILE


@click.command("explain")
@click.argument("decision_id")
@click.option("--notice", is_flag=True, help="Print the notice of adverse action that the person is owed.")
@common
def explain_command(decision_id: str, stage: Stage, *, notice: bool, as_json: bool) -> None:
    """Print why DECISION_ID came out as it did: rules, reasons with their texts, and each factor's part in the score.

    A part is in log odds; what counts is how far it is above that of applicants near the cut-off.
    """
    decision = decision_of(stage, decision_id)
    model = judge_of(stage, decision)
    catalogue = model.bundle.reasons if model else REASONS
    if notice:
        click.echo(render(decision, catalogue, REGULATION_PROFILE), nl=False)
        return
    found = explained(decision, model)
    if as_json:
        print_json(found)
        return
    factors = found.pop("factors")
    print_pairs(found | {"reasons": "; ".join(f"{one['code']} {one['text']}" for one in found["reasons"])})
    table = Table("factor", "part", "near the cut-off", "above")
    for one in factors:
        table.add_row(one["factor"], *(f"{one[name]:+.4f}" for name in ("part", "reference", "above")))
    Console().print(table)


def explained(decision: Decision, model: Judge | None) -> dict[str, Any]:
    """JSON form of why a decision came out as it did; factors from the one that raised the risk most on."""
    texts = {reason.code: reason.text for reason in (model.bundle.reasons if model else REASONS)}
    owed = decision.adverse_action
    return {
        "id": decision.id,
        "outcome": decision.outcome,
        "component": decision.component,
        "score": decision.score,
        "cutoff": decision.cutoff,
        "bundle": decision.bundle,
        "policy": decision.policy,
        "propensity": decision.propensity,
        "rules": decision.rules,
        "reasons": [{"code": code, "text": texts.get(code)} for code in decision.reasons],
        "terms": msgspec.to_builtins(decision.terms),
        "notice": owed and {"kind": owed.kind, "due_at": format_rfc3339(owed.due_at)},
        "factors": _factors(decision, model) if model else [],
    }


def _factors(decision: Decision, model: Judge) -> list[Mapping[str, Any]]:
    parts = model.catalogue.by_factor(model.booster.contributions(decision.vector.values)[:-1])
    reference = model.bundle.reason_reference
    rows = [
        {
            "factor": name,
            "part": part,
            "reference": reference.get(name, 0.0),
            "above": part - reference.get(name, 0.0),
        }
        for name, part in parts.items()
    ]
    return sorted(rows, key=lambda row: -float(row["above"]))
