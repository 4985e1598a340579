"""The layers: our two libraries, the light part of `history`, and third-party code; built without Docker."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.constructs import layer_build
from stacks.toolchain import ROOT


@jsii.implements(cdk.ILocalBundling)
class _LocalBundling:
    """Fills an asset's folder by a function, where CDK would start Docker."""

    def __init__(self, fill: Callable[[Path], None]) -> None:
        self._fill = fill

    def try_bundle(self, output_dir: str, options: Any = None, **_: Any) -> bool:
        self._fill(Path(output_dir))
        return True


def _asset(path: Path, fingerprint: str, fill: Callable[[Path], None]) -> lambda_.AssetCode:
    # A fingerprint of our own: CDK's would miss the target platform and include stray bytecode.
    return lambda_.Code.from_asset(
        str(path),
        asset_hash=fingerprint,
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        bundling=cdk.BundlingOptions(
            image=cdk.DockerImage.from_registry("unused"), local=_LocalBundling(fill)
        ),
    )


def source_code(path: Path) -> lambda_.AssetCode:
    """Our own code from `path`, with bytecode when this Python has the functions' version."""
    return _asset(path, layer_build.source_hash(path), partial(layer_build.copy_source, path))


@cache
def _check_declarations() -> None:
    """Check the lender's declarations (such as an expiry shorter than a window) before a deployment."""
    layer_build.check_imports("lender", ROOT / "layers" / "core", ROOT / "layers" / "lender")


class HouseLayers(Construct):
    """The layers of one stack's functions, each created at its first use.

    Every stack has layers of its own, of the same assets: a version shared across stacks would be an export in use,
    which CloudFormation refuses to replace, so that no library could be updated.
    """

    @cached_property
    def core(self) -> lambda_.LayerVersion:
        """The platform library `candor`."""
        return self._layer("Core", source_code(ROOT / "layers" / "core"))

    @cached_property
    def lender(self) -> lambda_.LayerVersion:
        """The lender's definitions, policy and reasons."""
        if cdk.Stack.of(self).bundling_required:
            _check_declarations()
        return self._layer("Lender", source_code(ROOT / "layers" / "lender"))

    @cached_property
    def history(self) -> lambda_.LayerVersion:
        """The light part of `history`: reading and indexing the archive, and healing items."""
        source = ROOT / "history"
        fingerprint = layer_build.source_hash(source, layer_build.HISTORY)
        fill = partial(layer_build.copy_package, source, layer_build.HISTORY)
        return self._layer("History", _asset(source, fingerprint, fill))

    @cached_property
    def runtime(self) -> lambda_.LayerVersion:
        """Third-party Python packages of the functions."""
        return self._layer("Runtime", self._built("runtime", layer_build.runtime_layer))

    @cached_property
    def lightgbm(self) -> lambda_.LayerVersion:
        """The scoring engine's shared libraries."""
        return self._layer("Lightgbm", self._built("lightgbm", layer_build.lightgbm_layer))

    def _built(self, name: str, build: Callable[[Path], Path]) -> lambda_.AssetCode:
        requirements = ROOT / "layers" / name / "requirements.txt"
        if cdk.Stack.of(self).bundling_required:
            build(requirements)  # here as well as in the callback, where an error would not stay one line

        def fill(target: Path) -> None:
            shutil.copytree(build(requirements), target, dirs_exist_ok=True)

        return _asset(requirements.parent, layer_build.requirements_hash(requirements), fill)

    def _layer(self, name: str, code: lambda_.AssetCode) -> lambda_.LayerVersion:
        return lambda_.LayerVersion(
            self,
            name,
            code=code,
            compatible_architectures=[lambda_.Architecture.ARM_64],
            compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
            description=f"candor {name.lower()}",
        )
