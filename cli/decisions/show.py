"""`candor decisions show`: the record of a decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from candor.decision import Decision, to_record
from cli.decisions.lookup import decision_of, features_of, judge_of
from cli.decisions.readable import feature_text, readable
from cli.options import common
from cli.output import print_json, print_pairs
from cli.policy_releases import release_of
from cli.stage import Stage

HIDDEN = "hidden"

_PERSONAL = {"applicant": ("token", "email_sha256"), "device": ("fingerprint", "ip_prefix")}
"""Members of a request that identify a person or a device."""


@click.command("show")
@click.argument("decision_id")
@common
def show_command(decision_id: str, stage: Stage, *, as_json: bool) -> None:
    """Print the record of DECISION_ID: request, features, score, rules, reasons, terms.

    Identifiers of persons and devices are hidden. `policy_release` is the release whose table decided, if any.
    """
    decision = decision_of(stage, decision_id)
    features = features_of(decision, None) or features_of(decision, judge_of(stage, decision))
    record = record_json(decision, features or [])
    record["policy_release"] = release_of(stage, decision.policy, decision.decided_at or decision.q)
    if as_json:
        print_json(record)
        return
    values, currency = record.pop("features"), decision.request.currency
    print_pairs(readable(record, currency))
    table = Table("feature", "value")
    for name, value in values.items():
        table.add_row(name, feature_text(name, value, currency))
    Console().print(table)


def record_json(decision: Decision, features: Sequence[str]) -> dict[str, Any]:
    """JSON form of a record with identifying members hidden; a missing value is null."""
    record: dict[str, Any] = msgspec.json.decode(to_record(decision))
    vector = record.pop("vector")
    for member, names in _PERSONAL.items():
        if record["request"].get(member):
            record["request"][member] |= {
                name: HIDDEN for name in names if record["request"][member].get(name) is not None
            }
    moments = {name: format_rfc3339(record[name]) for name in ("q", "decided_at") if record[name] is not None}
    values = vector["values"]
    known = list(features) or [f"value {number}" for number in range(len(values))]
    return {
        **record,
        **moments,
        "states": vector["states"],
        "features": dict(zip(known, values, strict=True)),
    }
