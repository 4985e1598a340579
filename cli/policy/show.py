"""`candor policy show`: the decision table that decides."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from candor.model.policy_document import PolicyDocument
from cli.options import common
from cli.output import print_json, print_pairs
from cli.policy_releases import code_difference, policy_releases
from cli.stage import Stage


@click.command("show")
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write policy.json and reasons.json into this folder, to edit and propose.",
)
@common
def show_command(folder: Path | None, stage: Stage, *, as_json: bool) -> None:
    """Print which table decides: its hash, its release, and whether the code's table differs from it."""
    releases = policy_releases(stage)
    champion, in_force = releases.serving(), stage.registry.pointer().policy
    document = PolicyDocument.in_bundle(champion)
    summary = {
        "table": document.hash,
        "release": in_force.number if in_force else None,
        "bundle": champion.sha,
        "reasons": [reason.code for reason in document.reasons],
        "notice": code_difference(releases),
    }
    if folder is not None:
        _write(document, folder)
    if as_json:
        print_json(summary)
    else:
        codes = ", ".join(reason.code for reason in document.reasons)
        print_pairs(
            {
                name: "none" if value is None else value
                for name, value in {**summary, "reasons": codes}.items()
            }
        )


def _write(document: PolicyDocument, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("policy.json", document.policy), ("reasons.json", document.reasons)):
        text = json.dumps(msgspec.to_builtins(content), indent=1, ensure_ascii=False)
        (folder / name).write_text(f"{text}\n", "utf-8")
