"""`candor decisions explain`: rules, reasons and factors of a decision."""

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
from candor.regulation import AdverseAction
from candor.underwriting import LoadedBundle
from cli.decisions.lookup import decision_of, judge_of
from cli.decisions.readable import readable
from cli.options import common
from cli.output import print_json, print_pairs
from cli.stage import Stage
from lender import REASONS, REGULATION_PROFILE


@click.command("explain")
@click.argument("decision_id")
@click.option("--notice", is_flag=True, help="Print the adverse action notice that the person must receive.")
@common
def explain_command(decision_id: str, stage: Stage, *, notice: bool, as_json: bool) -> None:
    """Explain DECISION_ID: rules, reasons with their texts, and each factor's part in the score.

    Parts are in log odds; reasons follow from how far a part is above that of applicants near the cut-off.
    """
    decision = decision_of(stage, decision_id)
    model = judge_of(stage, decision)
    catalogue = model.bundle.reasons if model else REASONS
    if notice:
        click.echo(render(decision, catalogue, REGULATION_PROFILE), nl=False)
        return
    explanation = explanation_json(decision, model)
    if as_json:
        print_json(explanation)
        return
    factors = explanation.pop("factors")
    reasons = {
        each["code"]: each["text"] or "a text that this release lacks" for each in explanation["reasons"]
    }
    print_pairs(readable(explanation, decision.request.currency) | {"reasons": reasons})
    table = Table("factor", "part (log odds)", "near the cut-off", "above")
    for factor in factors:
        table.add_row(factor["factor"], *(f"{factor[name]:+.4f}" for name in ("part", "reference", "above")))
    Console().print(table)


def explanation_json(decision: Decision, model: LoadedBundle | None) -> dict[str, Any]:
    """JSON form of a decision's rules, reasons and factors; the factor that raised the risk most comes first."""
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
        "merchant": decision.merchant_id,
        "merchant_order_id": decision.request.merchant_order_id,
        "amount": decision.request.total,
        "currency": decision.request.currency,
        "notice": owed and _notice_json(owed),
        "factors": _factors(decision, model) if model else [],
    }


def _notice_json(owed: AdverseAction) -> dict[str, Any]:
    return {
        "kind": owed.kind,
        "due_at": format_rfc3339(owed.due_at),
        "consumer_reports": [report.agency for report in owed.consumer_reports],
    }


def _factors(decision: Decision, model: LoadedBundle) -> list[Mapping[str, Any]]:
    contributions = model.engine.contributions(decision.vector.values)[:-1]
    effects = model.effects(contributions, decision.vector.values, decision.vector.states)
    rows = [
        {"factor": name, "part": part, "reference": reference, "above": part - reference}
        for name, (part, reference) in effects.items()
    ]
    return sorted(rows, key=lambda row: -float(row["above"]))
