"""Files to import, and the private folder for what is made of them."""

import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
import click
import pytest
from moto import mock_aws

from cli.events.private_folder import PREFIX, private_folder
from cli.events.sources import digest_of, local_files
from cli.progress import Progress
from tests.cli.deployed import REGION


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


def test_a_folder_gives_its_data_files_and_a_named_file_itself(tmp_path):
    for name in ("b.csv", "a.parquet", "deep/c.jsonl.gz", "readme.md"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("x")
    with Progress() as progress:
        files = local_files([str(tmp_path / "data")], tmp_path, progress)
        assert [file.name for file in files] == ["a.parquet", "b.csv", "c.jsonl.gz"]
        [named] = local_files([str(tmp_path / "data/readme.md")], tmp_path, progress)
        assert named.name == "readme.md"
        with pytest.raises(click.ClickException, match="no such file"):
            local_files([str(tmp_path / "nothing")], tmp_path, progress)


@mock_aws
def test_an_s3_prefix_gives_its_objects(tmp_path):
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="lake")
    for key, body in {"loans/1.csv": b"a", "loans/2.csv.gz": gzip.compress(b"b"), "loans/_done": b""}.items():
        s3.put_object(Bucket="lake", Key=key, Body=body)
    with Progress() as progress:
        files = local_files(["s3://lake/loans/"], tmp_path, progress)
        assert [file.name for file in files] == ["000000-1.csv", "000001-2.csv.gz"]
        with pytest.raises(click.ClickException, match="no file"):
            local_files(["s3://lake/other/"], tmp_path, progress)


def test_an_import_is_named_by_its_mapping_and_the_files_contents(tmp_path):
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    first.write_text("a")
    second.write_text("a")
    assert digest_of("m", [first]) == digest_of("m", [second])
    assert digest_of("m", [first]) != digest_of("n", [first])
    second.write_text("b")
    assert digest_of("m", [first]) != digest_of("m", [second])


def test_a_private_folder_is_this_users_alone_and_goes(tmp_path):
    with private_folder() as folder, private_folder() as other:
        assert folder.exists(), "another one leaves it alone"
        assert folder != other
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        (folder / "rows").write_text("personal")
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    code = (
        "import os, signal\n"
        "from cli.events.private_folder import private_folder\n"
        "with private_folder() as folder:\n"
        "    (folder / 'rows').write_text('personal')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == -9
    assert [path.read_text() for path in tmp_path.rglob("rows")] == ["personal"]
    with private_folder():
        assert not list(Path(tmp_path).rglob("rows"))
