"""Evaluation files of a bundle."""

from __future__ import annotations

import click
from botocore.exceptions import ClientError

from candor.registry.artifacts import s3_client
from candor.registry.runs import evaluation_key
from cli.bundles import SHORT
from cli.stage import Stage


def evaluation_file(stage: Stage, sha: str, name: str) -> bytes:
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
