"""Permissions: the whole IAM table against a reviewed copy, and rules for every stage.

To review a wanted change: delete golden/iam.json, run this file, read the new one's diff.
"""

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden" / "iam.json"

# Actions that AWS authorises on no resource at all.
UNSCOPED = {
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "ecr:GetAuthorizationToken",
    "cloudwatch:PutMetricData",
    "cloudwatch:GetMetricData",
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
}


def _listed(value):
    return sorted(value) if isinstance(value, list) else [value]


def _statements(assembly):
    """Role → its statements, from its own policy resources and from those inside the role."""
    table = {}
    for key, role in assembly.resources("AWS::IAM::Role").items():
        inline = [policy["PolicyDocument"] for policy in role["Properties"].get("Policies", [])]
        table[key] = [statement for document in inline for statement in document["Statement"]]
    for key, policy in assembly.resources("AWS::IAM::Policy").items():
        unit = key.partition("/")[0]
        for role in policy["Properties"]["Roles"]:
            table[f"{unit}/{role['Ref']}"] += policy["Properties"]["PolicyDocument"]["Statement"]
    return table


def _readable(assembly, statement):
    line = {
        "actions": _listed(statement["Action"]),
        "resources": _listed(assembly.plain(statement["Resource"])),
    }
    if "Condition" in statement:
        line["condition"] = assembly.plain(statement["Condition"])
    return line


def test_the_iam_table_is_the_reviewed_one(dev):
    table = {
        role: sorted((_readable(dev, each) for each in statements), key=json.dumps)
        for role, statements in sorted(_statements(dev).items())
        if statements
    }
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
        pytest.fail(f"wrote {GOLDEN.name}: review it, then run again")
    assert table == json.loads(GOLDEN.read_text("utf-8"))


def test_prod_grants_nothing_that_dev_does_not(dev, prod):
    def actions(assembly):
        return {
            role: {action for each in statements for action in _listed(each["Action"])}
            for role, statements in _statements(assembly).items()
        }

    granted = actions(dev)
    for role, allowed in actions(prod).items():
        assert allowed <= granted[role]


def test_no_action_is_a_wildcard_and_no_resource_either_but_where_aws_knows_none(assembly):
    for role, statements in _statements(assembly).items():
        for statement in statements:
            assert statement["Effect"] == "Allow"
            assert not [action for action in _listed(statement["Action"]) if "*" in action], role
            if "*" in _listed(assembly.plain(statement["Resource"])):
                assert set(_listed(statement["Action"])) <= UNSCOPED, role


def test_the_scorer_reads_features_and_writes_only_the_synchronous_ones(assembly):
    [statements] = [
        each for role, each in _statements(assembly).items() if role.startswith("serving/ScoreRole")
    ]
    allowed = {
        table: {
            action
            for statement in statements
            for action in _listed(statement["Action"])
            if any(
                str(each).startswith(f"<{table}") for each in _listed(assembly.plain(statement["Resource"]))
            )
        }
        for table in ("Features", "SynchronousFeatures")
    }
    both = {f"dynamodb:{name}" for name in ("BatchGetItem", "ConditionCheckItem", "GetItem", "PutItem")}
    assert allowed == {"Features": {"dynamodb:BatchGetItem"}, "SynchronousFeatures": both}
