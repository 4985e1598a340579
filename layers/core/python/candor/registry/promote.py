"""Promotion at the end of a training run, without a person: the gates have passed, and nothing else has changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from candor.registry.artifacts import require_bundle
from candor.registry.lifecycle import ApprovalRefused
from candor.registry.pointer import Pointer
from candor.registry.registry import Registry
from candor.registry.registry_table import PromotionConflict

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SECOND_PERSON: Final = "second_person"
"""The setting `approval`, and the output `PromotionApproval`, of a stage where a second person must approve."""


@dataclass(frozen=True, kw_only=True)
class Promoter:
    """Promotes the bundles of training runs; `bundles` is a bucket, `approval` a setting of the stage."""

    s3: S3Client
    registry: Registry
    bundles: str
    approval: str

    def promote(
        self, bundle: str, *, by: str, now_ms: int, compared_with: Collection[str | None] | None = None
    ) -> Pointer:
        """Make a bundle the champion; no change if it already is.

        `compared_with` holds the champions (None: no champion) that the gates compared it with, or None if the run
        names none. Raises ApprovalRefused where a second person must approve, BundleRefused for an unknown or refused
        bundle, PromotionConflict if another champion serves than the one compared with.
        """
        if self.approval == SECOND_PERSON:
            raise ApprovalRefused(
                "a second person must approve here: use `candor models promote` and `candor models approve`"
            )
        require_bundle(self.s3, self.bundles, bundle)
        if compared_with is not None and self.registry.pointer().bundle not in (bundle, *compared_with):
            raise PromotionConflict(
                "another champion serves than the one that the bundle was compared with: start the run again"
            )
        return self.registry.promote(bundle, by=by, at=now_ms, why="every gate passed")
