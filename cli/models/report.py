"""`candor models report`: an evaluation as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from cli.bundles import SHORT, resolve_bundle
from cli.models.evaluations import evaluation_file
from cli.options import common
from cli.output import print_json
from cli.stage import Stage


@click.command("report")
@click.argument("bundle")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write. Default: report-<bundle>.html, here.",
)
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@common
def report_command(bundle: str, out: Path | None, stage: Stage, *, show: bool, as_json: bool) -> None:
    """Write the evaluation of BUNDLE as one HTML page with plots, and print its path."""
    sha = resolve_bundle(stage, bundle)
    path = (out or Path(f"report-{sha[:SHORT]}.html")).resolve()
    path.write_bytes(evaluation_file(stage, sha, "report.html"))
    if as_json:
        print_json({"bundle": sha, "report": str(path)})
    else:
        click.echo(str(path))
    if show:
        click.launch(path.as_uri())
