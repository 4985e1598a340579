"""Alarms use the names of the metrics that the consistency report publishes."""

from candor.edge.telemetry import NAMESPACE
from cli.features.consistency import SERVICE, metrics
from history.replay.consistency import ConsistencyReport, Freshness


def test_a_fault_in_the_report_wakes_somebody(assembly):
    report = ConsistencyReport(1, freshness={"view": Freshness(1, 0, 0)})
    published = {
        (metric["MetricName"], tuple(sorted((each["Name"], each["Value"]) for each in metric["Dimensions"])))
        for metric in metrics(report, assembly.stage)
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
