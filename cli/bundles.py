"""Bundles by name (SHA-256), or by a unique prefix of it."""

from __future__ import annotations

from typing import Final

import click

from candor.model.bundle import Bundle
from candor.registry.artifacts import read_bundle, s3_client
from candor.underwriting import LoadedBundle
from cli.stage import Stage

SHORT: Final = 12
"""Characters of a bundle's name that are shown; any unique prefix may be given."""


def resolve_bundle(stage: Stage, name: str) -> str:
    """Full name of the bundle with this prefix. Raises ClickException if none or several match."""
    if len(name) == 64:
        return name
    matches = [
        registration.bundle
        for registration in stage.registry.registrations()
        if registration.bundle.startswith(name)
    ]
    if len(matches) != 1:
        why = "is no bundle" if not matches else f"is {len(matches)} bundles"
        raise click.ClickException(f"{name} {why}: `candor models list` shows their names")
    return matches[0]


def judge_named(stage: Stage, sha: str) -> LoadedBundle:
    """Bundle of this hash, loaded and ready to score. Raises BundleRefused, StoreUnavailable."""
    data = read_bundle(s3_client(), stage.output("BundlesBucketName"), sha)
    return LoadedBundle(sha, Bundle.from_bytes(data, sha))
