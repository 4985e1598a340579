"""The engine against the LightGBM package: equal bits, and errors instead of a crashed process."""

from __future__ import annotations

import ctypes
import math
import struct
import subprocess
import sys
from array import array

import lightgbm
import numpy as np
import pytest

from candor.errors import EngineUnavailable, ModelRefused
from candor.model import lightgbm as engine
from candor.model.lightgbm import Booster, library_path, load_library

NAMES = [f"view.sum_amount.{column}h" for column in range(9)] + ["request.total"]


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    random = np.random.default_rng(7)
    rows = random.normal(size=(1_500, len(NAMES))) * 10.0 ** random.integers(-3, 12, len(NAMES))
    rows[random.random(rows.shape) < 0.2] = math.nan
    rows[0] = math.nan
    rows[1] = 0.0
    return rows


@pytest.fixture(scope="module")
def trained(rows) -> lightgbm.Booster:
    target = (np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 9]) > 0).astype(int)
    parameters = {"objective": "binary", "num_leaves": 31, "num_threads": 1, "verbosity": -1, "seed": 1}
    return lightgbm.train(parameters, lightgbm.Dataset(rows, target, feature_name=NAMES), 60)


@pytest.fixture
def booster(trained):
    with Booster(trained.model_to_string()) as loaded:
        yield loaded


def test_raw_scores_are_bit_equal_to_the_package(booster, trained, rows):
    expected = trained.predict(rows, raw_score=True, num_threads=1).tolist()
    scored = [booster.raw(row) for row in rows.tolist()]
    assert struct.pack(f"{len(rows)}d", *scored) == struct.pack(f"{len(rows)}d", *expected)


def test_contributions_are_bit_equal_and_sum_to_the_raw_score(booster, trained, rows):
    expected = trained.predict(rows[:200], pred_contrib=True, num_threads=1).tolist()
    for row, wanted in zip(rows[:200].tolist(), expected, strict=True):
        contributions = booster.contributions(row)
        assert contributions == wanted
        assert sum(contributions) == pytest.approx(booster.raw(row), abs=1e-12)


def test_two_models_live_side_by_side(trained, rows):
    first, second = Booster(trained.model_to_string()), Booster(trained.model_to_string(num_iteration=5))
    row = rows[5].tolist()
    before = first.raw(row)
    assert second.raw(row) != before
    second.close()
    assert first.raw(row) == before
    first.close()


def test_a_row_of_another_width_is_refused(booster):
    with pytest.raises(ModelRefused, match="the row has 3 values, the model 10"):
        booster.raw([1.0, 2.0, 3.0])


def test_a_closed_model_says_so_and_closes_twice(trained):
    loaded = Booster(trained.model_to_string())
    loaded.close()
    loaded.close()
    for call in (loaded.raw, loaded.contributions):
        for row in ([0.0] * len(NAMES), np.zeros(len(NAMES)), np.zeros(0), []):
            with pytest.raises(ModelRefused, match="closed"):
                call(row)


def test_a_row_may_lie_in_memory_as_it_likes(booster, rows):
    for row in rows[:20]:
        expected = booster.raw(row.tolist())
        spread = np.zeros((len(row), 2))
        spread[:, 0] = row
        assert [booster.raw(values) for values in (row, array("d", row), tuple(row), spread[:, 0])] == [
            expected
        ] * 4
    single = np.float32([0.5] * len(NAMES))
    assert booster.raw(single) == booster.raw([0.5] * len(NAMES))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.93])
def test_a_cut_model_is_refused_and_the_process_lives(trained, share):
    text = trained.model_to_string()
    with pytest.raises(ModelRefused):
        Booster(text[: int(text.index("end of trees") * share)])


def test_a_shifted_tree_is_refused(trained):
    with pytest.raises(ModelRefused, match="damaged at tree 1"):
        Booster(trained.model_to_string().replace("Tree=1\n", "\nTree=1\n", 1))


def test_what_lightgbm_itself_refuses_carries_its_message(trained):
    with pytest.raises(ModelRefused, match=r"LightGBM: .*number of classes"):
        Booster(trained.model_to_string().replace("num_class=1\n", "", 1))


def test_a_model_of_several_classes_is_refused(rows):
    parameters = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    target = np.arange(len(rows)) % 3
    text = lightgbm.train(parameters, lightgbm.Dataset(rows, target), 2).model_to_string()
    with pytest.raises(ModelRefused, match="more than one class"):
        Booster(text)


def test_the_library_is_found_without_importing_the_package():
    code = "import sys; from candor.model.lightgbm import library_path; library_path(); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert not {"'numpy'", "'lightgbm'", "'scipy'"} & set(done.stdout.strip("[]\n").split(", "))


def test_lgbm_lib_names_the_library_or_its_folder(monkeypatch, tmp_path):
    library = tmp_path / "lib_lightgbm.so"
    library.write_bytes(b"")
    for place in (library, tmp_path):
        monkeypatch.setenv("LGBM_LIB", str(place))
        assert library_path() == str(library)


def test_the_layer_comes_before_the_wheel(monkeypatch, tmp_path):
    (tmp_path / "lib_lightgbm.so").write_bytes(b"")
    monkeypatch.delenv("LGBM_LIB", raising=False)
    monkeypatch.setattr(engine, "_LAYER", str(tmp_path))
    assert library_path() == str(tmp_path / "lib_lightgbm.so")


def test_a_missing_library_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setenv("LGBM_LIB", str(tmp_path))
    with pytest.raises(EngineUnavailable, match="attach the lightgbm layer"):
        library_path()


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("libgomp.so.1: cannot open shared object file", "install the system's libgomp1"),
        ("invalid ELF", "cannot load"),
    ],
)
def test_a_library_that_does_not_load_names_the_remedy(monkeypatch, message, remedy):
    def refuse(_: str) -> None:
        raise OSError(message)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    with pytest.raises(EngineUnavailable, match=remedy):
        load_library("/opt/lib/lib_lightgbm.so")
