"""Stateful resources keep their logical ids, and in prod they survive their stack."""

import json

import pytest

from candor.store import layout

# A changed id makes CloudFormation replace the resource, with its data. Change a line only with a migration.
STATEFUL = {
    "AWS::DynamoDB::Table": {
        "Features3940F53C",
        "SynchronousFeatures333437A6",
        "Decisions28C7D866",
        "Registry4DB9CCA5",
        "Merchants93CFE5E9",
    },
    "AWS::S3::Bucket": {"AccessLogs8B620ECA", "ArchiveDA4CB258", "Bundles3FB864E8", "Training1DBE9C16"},
    "AWS::SecretsManager::Secret": {"DecisionKey3A800BE6"},
}


@pytest.mark.parametrize("kind", STATEFUL)
def test_logical_ids_of_stateful_resources_never_change(assembly, kind):
    assert set(assembly.resources(kind)) == {f"storage/{logical_id}" for logical_id in STATEFUL[kind]}


def test_tables_are_keyed_and_expire_as_the_code_expects(assembly):
    tables = {
        key[8:-8]: each["Properties"] for key, each in assembly.resources("AWS::DynamoDB::Table").items()
    }
    for table in tables.values():
        assert table["KeySchema"] == [{"AttributeName": layout.KEY, "KeyType": "HASH"}]
        assert table["AttributeDefinitions"] == [{"AttributeName": layout.KEY, "AttributeType": "S"}]
        assert table["BillingMode"] == "PAY_PER_REQUEST"
    expiring = {name for name, table in tables.items() if "TimeToLiveSpecification" in table}
    assert expiring == {"Features", "SynchronousFeatures", "Decisions"}
    for name in expiring:
        assert tables[name]["TimeToLiveSpecification"]["AttributeName"] == layout.EXPIRES_AT
    streams = {
        name: table.get("StreamSpecification", {}).get("StreamViewType") for name, table in tables.items()
    }
    expected = {
        "Features": "NEW_AND_OLD_IMAGES",
        "SynchronousFeatures": "NEW_AND_OLD_IMAGES",
        "Decisions": "NEW_IMAGE",
        "Registry": None,
        "Merchants": None,
    }
    assert streams == expected


def test_prod_keeps_its_data(prod):
    for kind in STATEFUL:
        for resource in prod.resources(kind).values():
            assert resource["DeletionPolicy"] == "Retain"
            assert resource["UpdateReplacePolicy"] == "Retain"
    for table in prod.resources("AWS::DynamoDB::Table").values():
        assert table["Properties"]["DeletionProtectionEnabled"] is True
        recovery = table["Properties"]["PointInTimeRecoverySpecification"]
        assert recovery == {"PointInTimeRecoveryEnabled": True}


def test_prod_stacks_cannot_be_deleted_by_mistake(prod):
    manifest = json.loads((prod.folder / "manifest.json").read_text("utf-8"))["artifacts"]
    stacks = {k: each for k, each in manifest.items() if each["type"] == "aws:cloudformation:stack"}
    protected = {k for k, each in stacks.items() if each["properties"].get("terminationProtection")}
    assert protected == {
        f"candor-prod-{unit}" for unit in ("storage", "ingestion", "history", "serving", "training")
    }


def test_buckets_are_private_encrypted_and_tls_only(assembly):
    policies = [each["Properties"] for each in assembly.resources("AWS::S3::BucketPolicy").values()]
    tls_only = {
        policy["Bucket"]["Ref"]
        for policy in policies
        for statement in policy["PolicyDocument"]["Statement"]
        if statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
    }
    for key, bucket in assembly.resources("AWS::S3::Bucket").items():
        assert key.partition("/")[2] in tls_only
        assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
        assert bucket["Properties"]["BucketEncryption"]


def test_what_a_decision_rests_on_is_versioned(assembly):
    buckets = {key: each["Properties"] for key, each in assembly.resources("AWS::S3::Bucket").items()}
    versioned = {key for key, each in buckets.items() if "VersioningConfiguration" in each}
    assert versioned == {"storage/ArchiveDA4CB258", "storage/Bundles3FB864E8"}


def test_archived_decisions_go_when_the_stored_ones_do(assembly):
    days = {
        each["Properties"]["Environment"]["Variables"].get("DECISION_RETENTION_DAYS")
        for each in assembly.resources("AWS::Lambda::Function").values()
    } - {None}
    archive = assembly.resources("AWS::S3::Bucket")["storage/ArchiveDA4CB258"]["Properties"]
    rules = {rule["Prefix"]: rule for rule in archive["LifecycleConfiguration"]["Rules"] if "Prefix" in rule}
    assert {str(rules["decisions/"]["ExpirationInDays"])} == days
    assert "NoncurrentVersionExpiration" in rules["decisions/"]
    for rule in rules.values():  # S3 refuses an object that expires before it is moved
        for moved in rule.get("Transitions", []):
            assert moved["TransitionInDays"] < rule.get("ExpirationInDays", 10_000)
