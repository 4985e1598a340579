"""Every function is deployed once, the same way, with exactly the environment that its handler reads."""

import json
from pathlib import Path

from tests.test_imports import WITH_HISTORY

ROOT = Path(__file__).resolve().parents[2]

COMMON = {
    "OMP_NUM_THREADS",
    "STAGE",
    "POWERTOOLS_SERVICE_NAME",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_LOG_LEVEL",
}
ENVIRONMENT = {
    "score": {
        "FEATURES_TABLE",
        "SYNCHRONOUS_TABLE",
        "DECISIONS_TABLE",
        "REGISTRY_TABLE",
        "BUNDLES_BUCKET",
        "DECISION_KEY_SECRET",
        "REPLAY_CLOCK",
        "DEADLINE_MS",
        "DECISION_RETENTION_DAYS",
        "REDELIVERY_HORIZON_DAYS",
    },
    "authorize": {"MERCHANTS_TABLE"},
    "publish_events": {"EVENT_BUS_NAME"},
    "show_decision": {"DECISIONS_TABLE"},
    "show_record": {"DECISIONS_TABLE"},
    "log_commits": {"COMMITS_STREAM", "STREAMS_DLQ_URL"},
    "score_shadows": {"BUNDLES_BUCKET", "REGISTRY_TABLE", "SHADOWS_STREAM", "STREAMS_DLQ_URL"},
    "publish_decisions": {"DECISIONS_STREAM", "EVENT_BUS_NAME", "STREAMS_DLQ_URL"},
    "update_features": {
        "FEATURES_TABLE",
        "SYNCHRONOUS_TABLE",
        "EVENTS_DLQ_URL",
        "EVENTS_QUEUE_URL",
        "STALE_ITEMS_URL",
        "REDELIVERY_HORIZON_DAYS",
    },
    "heal_features": {
        "ARCHIVE_BUCKET",
        "FEATURES_TABLE",
        "SYNCHRONOUS_TABLE",
        "STALE_ITEMS_URL",
        "ARCHIVE_LAG_S",
        "RETRY_S",
    },
    "index_archive": {"ARCHIVE_BUCKET", "OBJECT_SECONDS"},
    "prepare_training": {
        "ARCHIVE_BUCKET",
        "TRAINING_BUCKET",
        "BUNDLES_BUCKET",
        "REGISTRY_TABLE",
        "JOB_PREFIX",
    },
    "register_model": {
        "BUNDLES_BUCKET",
        "REGISTRY_TABLE",
        "TRAINING_BUCKET",
        "GATES",
        "MODEL_PACKAGE_GROUP",
        "TRAINING_IMAGE",
    },
    "promote_model": {"REGISTRY_TABLE", "BUNDLES_BUCKET", "APPROVAL"},
    "guard_models": {"REGISTRY_TABLE", "NOTICES_TOPIC", "GUARD"},
}


def _directories():
    return {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}


def test_every_directory_of_functions_is_deployed_exactly_once(assembly):
    sources = [
        Path(asset["source"]["path"])
        for path in assembly.folder.glob("*.assets.json")
        for asset in json.loads(path.read_text("utf-8"))["files"].values()
    ]
    deployed = sorted(path.name for path in sources if path.parent == ROOT / "functions")
    assert deployed == sorted(_directories())
    assert sorted(assembly.functions()) == deployed


def test_each_function_gets_exactly_the_variables_it_reads(assembly):
    given = {name: set(each["Environment"]["Variables"]) for name, each in assembly.functions().items()}
    assert given == {name: names | COMMON for name, names in ENVIRONMENT.items()}


def test_the_scorer_alone_starts_from_a_snapshot_where_the_stage_asks_for_it(assembly):
    started = {name for name, each in assembly.functions().items() if "SnapStart" in each}
    assert started == ({"score"} if assembly.stage == "prod" else set())


def test_functions_share_the_house_defaults(assembly):
    groups = assembly.resources("AWS::Logs::LogGroup")
    for each in assembly.functions().values():
        assert each["Runtime"] == "python3.13"
        assert each["Architectures"] == ["arm64"]
        assert each["Handler"] == "handler.handler"
        assert each["TracingConfig"] == {"Mode": "Active"}
        assert each["LoggingConfig"]["LogFormat"] == "JSON"
        group = each["LoggingConfig"]["LogGroup"]["Ref"]
        [log_group] = [resource for key, resource in groups.items() if key.endswith("/" + group)]
        assert log_group["Properties"]["RetentionInDays"] > 0


def test_only_who_scores_carries_the_engine(assembly):
    layers = {
        name: {layer["Ref"].removeprefix("Layers")[:-8] for layer in each["Layers"]}
        for name, each in assembly.functions().items()
    }
    assert layers["score"] == {"Core", "Lender", "Runtime", "Lightgbm"}
    assert [name for name, each in sorted(layers.items()) if "Lightgbm" in each] == ["score", "score_shadows"]
    assert all({"Core", "Runtime"} <= each for each in layers.values())


def test_only_who_reads_the_archive_carries_history(assembly):
    layers = {
        name: {layer["Ref"].removeprefix("Layers")[:-8] for layer in each["Layers"]}
        for name, each in assembly.functions().items()
    }
    assert sorted(name for name, each in layers.items() if "History" in each) == sorted(WITH_HISTORY)


def test_layers_belong_to_their_stack_so_that_a_library_can_be_updated(assembly):
    exported = [
        output["Value"]
        for template in assembly.templates.values()
        for output in template.get("Outputs", {}).values()
        if "Export" in output
    ]
    assert not [value for value in exported if "Layers" in json.dumps(value)]


def test_the_replay_clock_is_refused_in_prod(dev, prod):
    assert dev.functions()["score"]["Environment"]["Variables"]["REPLAY_CLOCK"] == "allowed"
    assert prod.functions()["score"]["Environment"]["Variables"]["REPLAY_CLOCK"] == "refused"
