"""The private functions of moto that the local system replaces have the expected signatures."""

import importlib.metadata

import pytest

from local.aws.moto_patches import PATCH_POINTS, VERSION, PatchPoint


def test_moto_is_the_version_the_plug_points_were_read_in() -> None:
    assert importlib.metadata.version("moto") == VERSION


@pytest.mark.parametrize("point", PATCH_POINTS, ids=lambda point: point.path)
def test_patch_point(point: PatchPoint) -> None:
    assert point.mismatch() is None


def test_a_mismatch_is_reported() -> None:
    assert "is gone" in str(PatchPoint("moto.sqs.models:Nothing", ()).mismatch())
    assert "expected ('self',)" in str(
        PatchPoint("moto.sqs.models:SQSBackend.purge_queue", ("self",)).mismatch()
    )
