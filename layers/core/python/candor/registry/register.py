"""Registration of a trained bundle: verify, evaluate the gates, store and register."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from candor.errors import StoreUnavailable
from candor.features.definitions import Definitions
from candor.model.bundle import Bundle
from candor.model.packed import unpack
from candor.model.policy_document import PolicyDocument
from candor.registry.artifacts import keep_bundle, read_object
from candor.registry.gates import (
    Failure,
    Thresholds,
    compared_with_champion,
    failures,
    require_evaluation_of,
)
from candor.registry.lifecycle import CANDIDATE, REFUSED
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration
from candor.registry.runs import RunFolder
from candor.registry.sagemaker_registry import Package, enter_package
from candor.registry.training_run import PinnedPolicy, run_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient

_LINEAGE: Final = ("dataset_sha256", "rows", "bads", "as_of", "lightgbm")


@dataclass(frozen=True, kw_only=True)
class Registrar:
    """Registers bundles. `training` and `bundles` are buckets, `packages` is the model package group.

    `policy` is that of the code, which a release takes the place of.
    """

    s3: S3Client
    sagemaker: SageMakerClient
    registry: Registry
    training: str
    bundles: str
    packages: str
    image: str
    thresholds: Thresholds
    definitions: Definitions
    policy: PolicyDocument

    def register(self, run: str, packed_uri: str, now_ms: int) -> dict[str, Any]:
        """Register a run's bundle; returns its name, verdict and failed gates. BundleRefused for other definitions."""
        bundle = unpack(read_object(self.s3, packed_uri))
        bundle.require(self.definitions)
        folder = RunFolder(self.s3, self.training, run)
        evaluation = require_evaluation_of(folder.evaluation(), bundle.sha)
        document = PolicyDocument.in_bundle(bundle)
        pinned = PinnedPolicy.parse(folder.policy())
        refused = [*failures(evaluation, self.thresholds), *self._other_policy(document)]
        keep_bundle(self.s3, self.bundles, bundle.sha, bundle.to_bytes())
        folder.keep_evaluation(self.bundles, bundle.sha)
        metrics = figures(bundle, evaluation)
        known = self.registry.register(
            Registration(
                bundle.sha,
                REFUSED if refused else CANDIDATE,
                metrics,
                run,
                now_ms,
                gates=[(each.gate, each.reason) for each in refused],
                policy=document.digest,
            )
        )
        package = self._package(bundle, run, packed_uri, passed=not refused)
        return {
            "bundle": bundle.sha,
            "passed": not refused,
            "compared": compared_with_champion(evaluation),
            "champion": evaluation.get("champion"),
            "metrics": metrics,
            "refused": [f"{each.gate}: {each.reason}" for each in refused],
            "policy": {
                "table": document.hash,
                "release": pinned.number,
                "notice": pinned.difference(self.policy),
            },
            "no_lineage": self._enter(package) if known.package is None else None,
        }

    def _other_policy(self, document: PolicyDocument) -> list[Failure]:
        """Failure of a bundle with another policy than the released one: promoted, it would undo the release."""
        policy = self.registry.pointer().policy
        if policy is None or policy.digest == document.digest:
            return []
        reason = (
            f"the bundle has decision table {document.hash[:12]}, and release {policy.number} ({policy.policy[:12]}) is in "
            "force since: start the run again, it takes the released table"
        )
        return [Failure("policy", reason)]

    def _enter(self, package: Package) -> str | None:
        """Enter the package for lineage; returns the error or None. Not fatal: serving does not need it."""
        try:
            entered = enter_package(self.sagemaker, self.packages, package)
        except StoreUnavailable as refusal:
            return str(refusal)
        self.registry.note_package(package.bundle, entered)
        return None

    def _package(self, bundle: Bundle, run: str, packed_uri: str, *, passed: bool) -> Package:
        return Package(
            bundle=bundle.sha,
            run=run,
            passed=passed,
            image=self.image,
            packed_uri=packed_uri,
            evaluation_uri=f"{run_uri(self.training, run)}/evaluation",
            lineage={
                "definition_hash": bundle.definition_hash,
                **{name: str(bundle.lineage[name]) for name in _LINEAGE if name in bundle.lineage},
            },
        )


def figures(bundle: Bundle, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics shown in the list of bundles; the evaluation has all of them."""
    parts: dict[str, Mapping[str, Any]] = {
        name: evaluation.get(name) or {} for name in ("discrimination", "calibration", "stability", "profit")
    }
    known = {
        "auc": parts["discrimination"].get("auc", bundle.metrics.get("auc")),
        "auc_low": parts["discrimination"].get("auc_low"),
        "auc_high": parts["discrimination"].get("auc_high"),
        "slope": parts["calibration"].get("slope"),
        "psi": parts["stability"].get("psi"),
        "approval_rate": parts["profit"].get("approval_rate"),
    }
    return {name: value for name, value in known.items() if value is not None}
