"""Object store of a stage's archive, or of a copy of it in a folder."""

from __future__ import annotations

from pathlib import Path

import boto3
import click

from cli.stage import Stage
from history.archive.stores import BucketStore, FolderStore

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


def open_store(stage: Stage, folder: Path | None) -> BucketStore | FolderStore:
    if folder is not None:
        return FolderStore(folder)
    return BucketStore(boto3.client("s3"), stage.output("ArchiveBucketName"))
