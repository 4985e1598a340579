"""`candor models show`: what is known of a bundle."""

from __future__ import annotations

import click

from candor.registry.registry_table import Registration
from cli.bundles import SHORT, named_bundle
from cli.models.registrations import listed, proposal_text
from cli.options import common
from cli.output import print_json, print_pairs
from cli.stage import Stage


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
    pairs["proposal"] = proposal_text(found["proposal"]) or "none"
    print_pairs({**pairs, **{name: f"{value:.6g}" for name, value in metrics.items()}})


def known_bundle(stage: Stage, name: str) -> Registration:
    """A bundle of the registry. Raises ClickException."""
    sha = named_bundle(stage, name)
    known = stage.registry.registration(sha)
    if known is None:
        raise click.ClickException(f"{sha[:SHORT]} is no bundle: `candor models list` shows their names")
    return known
