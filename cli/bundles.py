"""Bundles by their name, or by its first letters."""

from __future__ import annotations

from typing import Final

import click

from candor.model.bundle import Bundle
from candor.registry.artifacts import read_bundle, s3_client
from candor.underwriting import Judge
from cli.stage import Stage

SHORT: Final = 12
"""So many letters of a bundle's name are shown; as few as tell it from the others may be given."""


def named_bundle(stage: Stage, name: str) -> str:
    """The whole name for the first letters of it. Raises ClickException if they are of none, or of several."""
    if len(name) == 64:
        return name
    found = [one.bundle for one in stage.registry.registrations() if one.bundle.startswith(name)]
    if len(found) != 1:
        why = "is no bundle" if not found else f"is {len(found)} bundles"
        raise click.ClickException(f"{name} {why}: `candor models list` shows their names")
    return found[0]


def judge_named(stage: Stage, sha: str) -> Judge:
    """A bundle by its hash. Raises BundleRefused, StoreUnavailable."""
    data = read_bundle(s3_client(), stage.output("BundlesBucketName"), sha)
    return Judge(sha, Bundle.from_bytes(data, sha))
