"""`candor models show`: one registered bundle."""

from __future__ import annotations

import click

from candor.registry.registry_table import Registration
from cli.bundles import SHORT, resolve_bundle
from cli.figures import VALIDATION, registered_figures
from cli.models.registrations import proposal_text, registration_json
from cli.options import common
from cli.output import print_json, print_pairs
from cli.stage import Stage


@click.command("show")
@click.argument("bundle")
@common
def show_command(bundle: str, stage: Stage, *, as_json: bool) -> None:
    """Print BUNDLE: state, run, figures, gate results and proposal."""
    registration = registration_json(known_bundle(stage, bundle))
    if as_json:
        print_json(registration)
        return
    metrics = registration.pop("metrics")
    pairs = {**registration, "refused": "\n".join(registration["refused"]) or "by no gate"}
    pairs["proposal"] = proposal_text(registration["proposal"]) or "none"
    print_pairs({**pairs, **registered_figures(metrics)})
    click.echo(f"Figures: {VALIDATION}")


def known_bundle(stage: Stage, name: str) -> Registration:
    """Registration of a bundle. Raises ClickException if there is none."""
    sha = resolve_bundle(stage, name)
    known = stage.registry.registration(sha)
    if known is None:
        raise click.ClickException(f"{sha[:SHORT]} is no bundle: `candor models list` shows their names")
    return known
