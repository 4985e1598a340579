"""A stage's settings are whole, typed and safe before anything is synthesized from them."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from candor.registry.gates import Thresholds
from stacks import toolchain
from stacks.settings import SettingsError, StageSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stages():
    return json.loads((ROOT / "cdk.json").read_text("utf-8"))["context"]["stages"]


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_committed_stages_are_usable(stages, stage):
    assert StageSettings.from_context(stages, stage).stage == stage


def test_a_replay_clock_is_refused_in_prod(stages):
    stages["prod"]["replay_clock"] = "allowed"
    with pytest.raises(SettingsError, match=r"prod.*must refuse the replay clock.*cdk\.json"):
        StageSettings.from_context(stages, "prod")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("removal", "destroy"), ("termination_protection", False), ("point_in_time_recovery", False)],
)
def test_prod_must_keep_its_data(stages, setting, value):
    stages["prod"][setting] = value
    with pytest.raises(SettingsError, match="must keep its data"):
        StageSettings.from_context(stages, "prod")


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("deadline_ms", "300", "must be of type int"),
        ("deadline_ms", True, "must be of type int"),
        ("deadline_ms", 5, "must be 20 to 20000"),
        ("promotion", "nobody", "must be policy or person"),
        ("log_retention_days", 8, "must be one of"),
        ("dlq_retention_days", 1, "must not be shorter"),
        ("merchant_requests_per_second", 501, "must not be above requests_per_second"),
        ("merchant_requests_burst", 1_001, "must not be above requests_burst"),
        ("alarm_email", 7, "must be of type str or null"),
        ("replay", "allowed", "has unknown settings: replay"),
    ],
)
def test_an_unusable_setting_is_named(stages, setting, value, complaint):
    stages["dev"][setting] = value
    with pytest.raises(SettingsError, match=complaint):
        StageSettings.from_context(stages, "dev")


def test_a_missing_setting_is_named(stages):
    del stages["dev"]["memory_mb"]
    with pytest.raises(SettingsError, match="lacks settings: memory_mb"):
        StageSettings.from_context(stages, "dev")


def test_an_unknown_stage_is_named(stages):
    with pytest.raises(SettingsError, match=r"'test' is not in cdk\.json \(it has: dev, prod\)"):
        StageSettings.from_context(stages, "test")


def test_no_stages_at_all():
    with pytest.raises(SettingsError, match="it has: none"):
        StageSettings.from_context(None, "dev")


def test_a_whole_number_is_a_number(stages):
    stages["dev"]["gates"]["min_auc"] = 1
    assert StageSettings.from_context(stages, "dev").gates.min_auc == 1.0


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("gates.min_auc", 1.5, r"gates\.min_auc is 1\.5, it must be 0 to 1"),
        ("gates.min_gini", 0.4, r"has unknown settings: gates\.min_gini"),
        ("gates.max_psi", "low", r"gates\.max_psi is 'low', it must be of type float"),
        ("guard.hours", 1.5, r"guard\.hours is 1\.5, it must be of type int"),
        ("canary_shares", [0.2, 0.1], "canary_shares must rise"),
        ("canary_shares", [0.2, 1.0], "canary_shares must rise"),
        ("canary_shares", ["all"], "must be of type float"),
        ("gates", None, "must be of type GateSettings"),
        ("approval", "second_person", "a promotion by policy asks no second person"),
    ],
)
def test_an_unusable_setting_of_models_is_named(stages, path, value, complaint):
    *parts, name = path.split(".")
    place = stages["dev"]
    for part in parts:
        place = place[part]
    place[name] = value
    with pytest.raises(SettingsError, match=complaint):
        StageSettings.from_context(stages, "dev")


def test_prod_asks_for_more_than_a_coins_auc(stages):
    stages["prod"]["gates"]["min_auc"] = 0.5
    with pytest.raises(SettingsError, match=r"gates\.min_auc must be above 0\.5"):
        StageSettings.from_context(stages, "prod")


def test_a_missing_part_of_a_setting_is_named(stages):
    del stages["prod"]["guard"]["hours"]
    with pytest.raises(SettingsError, match=r"lacks settings: guard\.hours"):
        StageSettings.from_context(stages, "prod")


def test_prods_gates_are_the_fields_own_defaults():
    settings = StageSettings.from_context(toolchain.context([])["stages"], "prod")
    assert Thresholds.parse(json.dumps(asdict(settings.gates))) == Thresholds()


def test_context_of_the_command_line_comes_on_top():
    values = toolchain.context(["-c", "stage=prod", "--context", "some=[1]"])
    assert (values["stage"], values["some"]) == ("prod", [1])
    assert set(values["stages"]) == {"dev", "prod"}


@pytest.mark.parametrize("arguments", [["-c"], ["stage=prod"], ["-c", "stage"]])
def test_any_other_argument_is_refused(arguments):
    with pytest.raises(SystemExit, match="use -c key=value"):
        toolchain.context(arguments)


def test_an_unknown_stage_ends_the_synthesis_in_one_line(tmp_path):
    line = [sys.executable, "app.py", "-c", "stage=test"]
    environment = os.environ | {"CDK_OUTDIR": str(tmp_path)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [said] = done.stderr.splitlines()
    assert said.startswith("synthesis stopped: stage 'test' is not in cdk.json")
