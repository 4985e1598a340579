"""A lender that changed since its model was trained: views to fill from the archive, and the champion's definitions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from candor.features.definitions import Definitions
from candor.features.views import FeatureView
from candor.model.bundle import Bundle
from candor.registry.artifacts import read_bundle, s3_client
from candor.registry.promote import Promoter
from candor.registry.registry import Registry
from candor.registry.registry_table import Registration
from local.errors import LocalError

ACTOR: Final = "make run"
"""Name of the demo in the audit of a promotion."""

ROOT: Final = Path(__file__).resolve().parent.parent


def version_names(views: Collection[FeatureView]) -> list[str]:
    """`view@version` of every view."""
    return [f"{view.name}@{view.version}" for view in views]


def unfilled(definitions: Definitions, filled: Collection[str]) -> list[FeatureView]:
    """Views that models are trained on and whose version is not among the `filled` ones, as `view@version`."""
    return [view for view in definitions.views if f"{view.name}@{view.version}" not in filled]


def still_filled(definitions: Definitions, filled: Collection[str]) -> list[str]:
    """Versions that were filled and are still kept up to date; an abandoned version misses events from now on."""
    kept = set(version_names(definitions.kept))
    return [name for name in filled if name in kept]


class _Decided(msgspec.Struct):
    """Part of a decision record: the bundle that decided, or None."""

    bundle: str | None


class ServedModels:
    """Bundles that serve or served, by the outputs of a running system."""

    def __init__(self, outputs: Mapping[str, str]) -> None:
        self._registry = Registry(outputs["RegistryTableName"])
        self._bucket = outputs["BundlesBucketName"]
        self._approval = outputs["PromotionApproval"]

    def champion_run(self, definition_hash: str) -> str | None:
        """Run that trained the champion; None unless there is one, trained on the definitions of this hash.

        Raises BundleRefused, StoreUnavailable.
        """
        sha = self._registry.pointer().bundle
        known = self._registry.registration(sha) if sha else None
        if known is None or self.bundle(known.bundle).definition_hash != definition_hash:
            return None
        return known.run

    def bundle(self, sha: str) -> Bundle:
        """A bundle by its name. Raises BundleRefused, StoreUnavailable."""
        return Bundle.from_bytes(read_bundle(s3_client(), self._bucket, sha), sha)

    def features_by_hash(self, records: Iterable[bytes]) -> dict[str, tuple[str, ...]]:
        """Feature names of the models that made these decisions, by the hash of the models' definitions.

        Raises BundleRefused, StoreUnavailable.
        """
        named = {msgspec.json.decode(record, type=_Decided).bundle for record in records}
        bundles = [self.bundle(sha) for sha in sorted(filter(None, named))]
        return {bundle.definition_hash: bundle.features for bundle in bundles}

    def promote(self, run: str, now_ms: int) -> None:
        """Promote the model of a run that passed every gate, as a person does; no change if it is the champion.

        A run leaves that to a person where the champion has seen all labels, or needs features that were removed: the
        two cannot be compared then. Raises ApprovalRefused where a second person must approve, BundleRefused,
        PromotionConflict, StoreUnavailable.
        """
        promoter = Promoter(
            s3=s3_client(), registry=self._registry, bundles=self._bucket, approval=self._approval
        )
        for registration in self._of_run(run):
            promoter.promote(registration.bundle, by=ACTOR, now_ms=now_ms)

    def failed_gates(self, run: str) -> list[str]:
        """Gates that refused the model of a run, each with its reason."""
        return [
            f"{gate}: {reason}" for registration in self._of_run(run) for gate, reason in registration.gates
        ]

    def _of_run(self, run: str) -> list[Registration]:
        return [each for each in self._registry.registrations() if each.run == run]


def backfill(view: FeatureView, state: Path) -> Mapping[str, Any]:
    """Fill a view from the archive of the system that runs in `state`; returns the command's summary.

    Runs `candor features backfill`, so that the demo does what a lender does on a stage. Raises LocalError.
    """
    words = ["features", "backfill", view.name, "--to", view.version]
    command = [sys.executable, "-m", "cli", *words, "--local", "--state", str(state.absolute()), "--json"]
    code = (ROOT, ROOT / "layers/core/python", ROOT / "layers/lender/python")
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, code))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LocalError(
            f"view {view.name} was not filled from the archive: {_cause(done)}; "
            "run `make run` again, or `make reset` to begin anew"
        )
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def _cause(ended: subprocess.CompletedProcess[str]) -> str:
    """Cause in one line: the failures of the summary, or the last line of the errors."""
    try:
        summary = json.loads(ended.stdout)
    except ValueError:
        lines: Sequence[str] = ended.stderr.strip().splitlines()
        return lines[-1].removeprefix("Error: ") if lines else f"exit code {ended.returncode}"
    causes = [f"{number} x {cause}" for cause, number in summary["failures"].items()]
    if summary["different"]:
        causes.append(f"{summary['different']} of {summary['compared']} entities differ from the archive")
    return ", ".join(causes)
