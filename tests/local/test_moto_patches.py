"""The private places of moto that the local system replaces are what it takes them for."""

import importlib.metadata

import pytest

from local.aws.moto_patches import PLUG_POINTS, VERSION, PlugPoint


def test_moto_is_the_version_the_plug_points_were_read_in() -> None:
    assert importlib.metadata.version("moto") == VERSION


@pytest.mark.parametrize("point", PLUG_POINTS, ids=lambda point: point.path)
def test_plug_point(point: PlugPoint) -> None:
    assert point.mismatch() is None


def test_a_mismatch_is_told() -> None:
    assert "is gone" in str(PlugPoint("moto.sqs.models:Nothing", ()).mismatch())
    assert "expected ('self',)" in str(
        PlugPoint("moto.sqs.models:SQSBackend.purge_queue", ("self",)).mismatch()
    )
