"""`candor decisions …`: what was decided, why, and the same again from the record and its bundle alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from candor.decision import Decision, parse_record, to_record
from candor.model.bundle import Bundle
from candor.notice import render
from candor.policy import Policy
from candor.registry.artifacts import read_bundle, s3_client
from candor.store.dynamodb import DynamoDecisionStore
from candor.underwriting import Judge
from cli.options import Shown, common, one_line, print_json, print_pairs
from cli.replaying import chosen
from cli.stage import Stage
from history.archive.events import ArchiveDamaged
from history.replay.as_decided import compared, differing, reassess
from history.replay.as_served import KeptDefinitions
from lender import DEFINITIONS, REASONS, REGULATION_PROFILE
from lender import policy as lender_policy

HIDDEN = "hidden"
_PERSONAL = {"applicant": ("token", "email_sha256"), "device": ("fingerprint", "ip_prefix")}
"""What of a request names a person or a device."""


@click.group()
def decisions() -> None:
    """Decisions: what was decided, why, and whether it comes out the same again."""


@decisions.command("show")
@click.argument("decision_id")
@common
def show_command(decision_id: str, stage: Stage, *, as_json: bool) -> None:
    """Print the record of DECISION_ID: request, features, score, rules, reasons, terms.

    What names a person or a device is hidden.
    """
    decision = decision_of(stage, decision_id)
    features = features_of(decision, None) or features_of(decision, judge_of(stage, decision))
    found = shown(decision, features or [])
    if as_json:
        print_json(found)
        return
    values = found.pop("features")
    print_pairs(found)
    table = Table("feature", "value")
    for name, value in values.items():
        table.add_row(name, "missing" if value is None else f"{value:.12g}")
    Console().print(table)


@decisions.command("explain")
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


@decisions.command("replay")
@click.argument("decision_id")
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The table of a decision that no bundle made. Default: this release's.",
)
@common
def replay_command(decision_id: str, policy_file: Path | None, stage: Stage, *, as_json: bool) -> None:
    """Judge DECISION_ID again from its record and its bundle alone, and compare bit for bit.

    What serves now does not matter. Exit code 1 if anything differs.
    """
    decision = decision_of(stage, decision_id)
    model = judge_of(stage, decision)
    policy = model.policy if model else fallback_of(decision, policy_file)
    features = features_of(decision, model)
    if features is None:
        raise click.ClickException(
            f"decision {decision.id} was made without a bundle by definitions {decision.definition_hash[:12]}, "
            "which this release does not keep: use the release that does"
        )
    rows = compared(decision, reassess(decision, model, policy, features), policy.hash)
    different = differing(rows)
    if as_json:
        told = {one.name: {"decided": one.served, "replayed": one.replayed} for one in rows}
        print_json({"id": decision.id, "same": not different, "parts": told})
    else:
        table = Table("", "decided", "replayed", "", title=decision.id)
        for one in rows:
            table.add_row(one.name, one.served, one.replayed, "differs" if one in different else "")
        Console().print(table)
    if different:
        raise click.ClickException(
            f"{', '.join(one.name for one in different)} differ: the record or the code is not what decided; "
            "compare the release"
        )


def decision_of(stage: Stage, decision_id: str) -> Decision:
    """A decision from the table, or from the archive once it has expired there. Raises ClickException."""
    tables = stage.output("FeaturesTableName"), stage.output("DecisionsTableName")
    stored = DynamoDecisionStore(*tables, pointer=lambda: (None, None)).get(decision_id)
    with Shown() as progress, one_line(ArchiveDamaged, msgspec.ValidationError):
        return parse_record(stored.record) if stored else chosen(stage, progress, [decision_id])[0]


def judge_of(stage: Stage, decision: Decision) -> Judge | None:
    """The bundle that made a decision, by its hash; None if none did. Raises BundleRefused, StoreUnavailable."""
    return None if decision.bundle is None else judge_named(stage, decision.bundle)


def judge_named(stage: Stage, sha: str) -> Judge:
    """A bundle by its hash. Raises BundleRefused, StoreUnavailable."""
    data = read_bundle(s3_client(), stage.output("BundlesBucketName"), sha)
    return Judge(sha, Bundle.from_bytes(data, sha))


def features_of(decision: Decision, model: Judge | None) -> Sequence[str] | None:
    """Names of a record's values, from its bundle or from the definitions that are kept; None if neither tells."""
    if model is not None:
        return model.bundle.features
    kept = KeptDefinitions(DEFINITIONS).served_by(decision)
    return kept.features if kept else None


def fallback_of(decision: Decision, file: Path | None) -> Policy:
    """The table of a decision that no bundle made. Raises ClickException if it is another one."""
    policy = Policy(read_table(file) if file else lender_policy())
    if policy.hash != decision.policy:
        raise click.ClickException(
            f"decision {decision.id} was made by policy {decision.policy[:12]}, this is {policy.hash[:12]}: "
            "give that table with --policy"
        )
    return policy


def read_table(file: Path) -> dict[str, Any]:
    """A decision table. Raises ClickException if the file is no JSON object."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.ClickException(f"{file} is no decision table: save it from the GoRules editor")
    return found


def shown(decision: Decision, features: Sequence[str]) -> dict[str, Any]:
    """JSON form of a record without what names anybody; a missing value is null."""
    found: dict[str, Any] = msgspec.json.decode(to_record(decision))
    vector = found.pop("vector")
    for member, names in _PERSONAL.items():
        if found["request"].get(member):
            found["request"][member] |= {
                name: HIDDEN for name in names if found["request"][member].get(name) is not None
            }
    moments = {name: format_rfc3339(found[name]) for name in ("q", "decided_at") if found[name] is not None}
    values = vector["values"]
    known = list(features) or [f"value {place}" for place in range(len(values))]
    return {
        **found,
        **moments,
        "states": vector["states"],
        "features": dict(zip(known, values, strict=True)),
    }


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
