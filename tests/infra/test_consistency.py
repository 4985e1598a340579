"""What the consistency report publishes is watched under the very names that it is published by."""

from candor.edge.telemetry import NAMESPACE
from cli.consistency import SERVICE, metrics
from history.replay.consistency import ConsistencyReport, Freshness


def test_a_fault_in_the_report_wakes_somebody(assembly):
    report = ConsistencyReport(1, freshness={"view": Freshness(1, 0, 0)})
    published = {
        (one["MetricName"], tuple(sorted((each["Name"], each["Value"]) for each in one["Dimensions"])))
        for one in metrics(report, assembly.stage)
    }
    watched = {}
    for alarm in assembly.resources("AWS::CloudWatch::Alarm").values():
        properties = alarm["Properties"]
        dimensions = tuple(sorted((each["Name"], str(each["Value"])) for each in properties["Dimensions"]))
        if properties["Namespace"] == NAMESPACE and ("service", SERVICE) in dimensions:
            watched[properties["MetricName"], dimensions] = properties
    assert {name for name, _ in watched} == {"AsServedMismatches", "UnexplainedDifferences"}
    assert set(watched) < published
    for properties in watched.values():
        assert (properties["Threshold"], properties["ComparisonOperator"]) == (
            1,
            "GreaterThanOrEqualToThreshold",
        )
        assert (properties["Statistic"], properties["TreatMissingData"]) == ("Maximum", "notBreaching")
        assert properties["AlarmActions"]
