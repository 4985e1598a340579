"""cdk-nag's findings: none is open, and each acknowledgement has a reason and something to acknowledge."""

import json


def _nag(assembly):
    report = json.loads((assembly.folder / "validation-report.json").read_text("utf-8"))
    [nag_report] = [each for each in report["pluginReports"] if each["pluginName"] == "AwsSolutions"]
    return nag_report


def _acknowledged(assembly):
    """(construct, rule) → reason, as the templates' metadata records them."""
    table = {}
    for path in assembly.folder.glob("*.metadata.json"):
        for construct, entries in json.loads(path.read_text("utf-8")).items():
            for entry in entries:
                if entry["type"] == "aws:cdk:acknowledged-rules":
                    table |= {(construct.lstrip("/"), rule): reason for rule, reason in entry["data"].items()}
    return table


def test_no_finding_is_open(assembly):
    nag_report = _nag(assembly)
    assert (nag_report["conclusion"], nag_report["violations"]) == ("success", [])


def test_each_acknowledgement_is_needed_and_gives_its_reason(assembly):
    used = {
        (each["acknowledgedAt"], each["acknowledgedId"]) for each in _nag(assembly)["suppressedViolations"]
    }
    acknowledged = _acknowledged(assembly)
    assert set(acknowledged) == used
    assert all(len(reason) > 30 for reason in acknowledged.values())
