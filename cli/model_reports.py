"""`candor models list | show | compare | history | report`: what there is to know of a bundle. Nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
from botocore.exceptions import ClientError
from rich.console import Console
from rich.table import Table

from candor.clock import format_rfc3339
from candor.registry.artifacts import s3_client
from candor.registry.lifecycle import Transition
from candor.registry.registry_table import Registration
from candor.registry.runs import evaluation_key
from cli.options import common, print_json, print_pairs
from cli.stage import Stage

SHORT: Final = 12
"""So many letters of a bundle's name are shown; as few as tell it from the others may be given."""

COMPARED: Final = (
    *(f"discrimination.{name}" for name in ("n", "bads", "auc", "auc_low", "auc_high", "gini", "ks")),
    "discrimination.average_precision",
    *(f"calibration.{name}" for name in ("slope", "intercept", "ece", "brier", "log_loss")),
    "stability.psi",
    *(f"profit.{name}" for name in ("cutoff", "approval_rate", "bad_rate", "profit_per_unit")),
    *(f"reasons.{name}" for name in ("without", "stability")),
    *(f"latency.{name}" for name in ("score_us_p50", "score_us_p99")),
    "parity.mismatches",
    "fairness.air",
)
"""Figures of two evaluations that stand side by side; of groups the lowest adverse impact ratio."""


@click.command("list")
@common
def list_command(stage: Stage, *, as_json: bool) -> None:
    """Print every bundle, the newest first: its state, its run and what it is worth."""
    found = [listed(one) for one in stage.registry.registrations()]
    if as_json:
        print_json({"bundles": found})
        return
    table = Table("bundle", "state", "run", "made", "AUC", "note")
    for one in found:
        note = one["refused"][0] if one["refused"] else _proposed(one["proposal"])
        auc = "-" if one["metrics"].get("auc") is None else f"{one['metrics']['auc']:.4f}"
        table.add_row(one["bundle"][:SHORT], one["state"], one["run"], one["created_at"], auc, note)
    Console().print(table)


@click.command("show")
@click.argument("bundle")
@common
def show_command(bundle: str, stage: Stage, *, as_json: bool) -> None:
    """Print what is known of BUNDLE: state, run, figures, what its gates said, what is proposed of it."""
    found = listed(known_bundle(stage, bundle))
    if as_json:
        print_json(found)
        return
    metrics = found.pop("metrics")
    pairs = {**found, "refused": "\n".join(found["refused"]) or "by no gate"}
    pairs["proposal"] = _proposed(found["proposal"]) or "none"
    print_pairs({**pairs, **{name: f"{value:.6g}" for name, value in metrics.items()}})


@click.command("compare")
@click.argument("bundle")
@click.argument("other", required=False)
@common
def compare_command(bundle: str, other: str | None, stage: Stage, *, as_json: bool) -> None:
    """Print the evaluations of BUNDLE and OTHER side by side. Default for OTHER: the champion.

    Each was measured on its own run's late part: the confidence interval of a difference on the same
    rows is in the evaluation of the newer one.
    """
    pair = [named_bundle(stage, bundle), named_bundle(stage, other) if other else _champion(stage)]
    rows = compared(*(evaluation_of(stage, sha) for sha in pair))
    if as_json:
        print_json({"bundles": pair, "figures": rows})
        return
    table = Table("", *(sha[:SHORT] for sha in pair), "difference")
    for name, (one, two, difference) in rows.items():
        table.add_row(name, _number(one), _number(two), "" if difference is None else f"{difference:+.6g}")
    Console().print(table)


@click.command("history")
@click.argument("bundle", required=False)
@common
def history_command(bundle: str | None, stage: Stage, *, as_json: bool) -> None:
    """Print every step of BUNDLE's life, or of every bundle's: when, from what to what, by whom and why."""
    registry = stage.registry
    shas = [named_bundle(stage, bundle)] if bundle else [one.bundle for one in registry.registrations()]
    lines = sorted((line for sha in shas for line in registry.history(sha)), key=lambda line: line.at)
    found = [_step(line) for line in lines]
    if as_json:
        print_json({"steps": found})
        return
    table = Table("at", "bundle", "from", "to", "by", "why")
    for one in found:
        before = one["from"] or "-"
        table.add_row(one["at"], one["bundle"][:SHORT], before, one["to"], one["by"], one["why"])
    Console().print(table)


@click.command("report")
@click.argument("bundle")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write. Default: report-<bundle>.html, here.",
)
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@common
def report_command(bundle: str, out: Path | None, stage: Stage, *, show: bool, as_json: bool) -> None:
    """Write the evaluation of BUNDLE as one HTML page with its plots, and print where it is."""
    sha = named_bundle(stage, bundle)
    path = (out or Path(f"report-{sha[:SHORT]}.html")).resolve()
    path.write_bytes(_evaluation_file(stage, sha, "report.html"))
    if as_json:
        print_json({"bundle": sha, "report": str(path)})
    else:
        click.echo(str(path))
    if show:
        click.launch(path.as_uri())


def named_bundle(stage: Stage, name: str) -> str:
    """The whole name for the first letters of it. Raises ClickException if they are of none, or of several."""
    if len(name) == 64:
        return name
    found = [one.bundle for one in stage.registry.registrations() if one.bundle.startswith(name)]
    if len(found) != 1:
        why = "is no bundle" if not found else f"is {len(found)} bundles"
        raise click.ClickException(f"{name} {why}: `candor models list` shows their names")
    return found[0]


def known_bundle(stage: Stage, name: str) -> Registration:
    """A bundle of the registry. Raises ClickException."""
    sha = named_bundle(stage, name)
    known = stage.registry.registration(sha)
    if known is None:
        raise click.ClickException(f"{sha[:SHORT]} is no bundle: `candor models list` shows their names")
    return known


def evaluation_of(stage: Stage, sha: str) -> dict[str, Any]:
    """A bundle's evaluation, as it was kept when it was registered. Raises ClickException."""
    found: dict[str, Any] = json.loads(_evaluation_file(stage, sha, "evaluation.json"))
    return found


def compared(
    one: Mapping[str, Any], two: Mapping[str, Any]
) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Each figure of both, and the first less the second; None for what one of them does not tell."""
    rows = {}
    for path in COMPARED:
        pair = _figure(one, path), _figure(two, path)
        difference = None if pair[0] is None or pair[1] is None else pair[0] - pair[1]
        if pair != (None, None):
            rows[path] = (*pair, difference)
    return rows


def listed(one: Registration) -> dict[str, Any]:
    """JSON form of a bundle."""
    proposal = one.proposal
    return {
        "bundle": one.bundle,
        "state": one.state,
        "run": one.run,
        "created_at": format_rfc3339(one.created_at),
        "promoted_at": format_rfc3339(one.promoted_at) if one.promoted_at else None,
        "refused": [f"{gate}: {reason}" for gate, reason in one.gates],
        "proposal": proposal
        and {
            "to": proposal.to,
            "share": proposal.share,
            "by": proposal.by,
            "at": format_rfc3339(proposal.at),
            "why": proposal.why,
        },
        "package": one.package,
        "metrics": dict(one.metrics),
    }


def _figure(evaluation: Mapping[str, Any], path: str) -> float | None:
    part, _, name = path.partition(".")
    section = evaluation.get(part) or {}
    if path == "fairness.air":
        return min((group["air"] for group in section.get("groups", ())), default=None)
    found = section.get(name)
    return None if found is None else float(found)


def _evaluation_file(stage: Stage, sha: str, name: str) -> bytes:
    bucket = stage.output("BundlesBucketName")
    try:
        body: bytes = s3_client().get_object(Bucket=bucket, Key=evaluation_key(sha, name))["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "403", "NoSuchKey"):
            raise
        raise click.ClickException(
            f"bundle {sha[:SHORT]} has no {name}: retrain, a run writes one"
        ) from error
    return body


def _champion(stage: Stage) -> str:
    serving = stage.registry.pointer().bundle
    if serving is None:
        raise click.ClickException("no champion serves: name the OTHER bundle")
    return serving


def _step(line: Transition) -> dict[str, Any]:
    return {
        "at": format_rfc3339(line.at),
        "bundle": line.bundle,
        "from": line.before,
        "to": line.after,
        "by": line.by,
        "why": line.why,
        "identity": line.identity or None,
    }


def _proposed(proposal: Mapping[str, Any] | None) -> str:
    return "" if proposal is None else f"proposed as {proposal['to']} by {proposal['by']}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
