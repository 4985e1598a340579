"""Alarms use the names and the limits of the metrics that the model's report publishes."""

import importlib.util
import json

import botocore.session
import numpy as np

from candor.clock import DAY
from candor.edge.telemetry import NAMESPACE
from tests.decide import lending
from training.monitoring.loans import LoanEnd
from training.monitoring.metrics import SERVICE, metrics
from training.monitoring.monitor import monitor
from training.monitoring.population import Served, TrainingSnapshot
from training.monitoring.signals import LIMITS

ROWS = 600


def a_report():
    """A report with every metric that has an alarm."""
    random, bundle = np.random.default_rng(1), lending.champion()
    features = lending.DEFINITIONS.features
    values, amount = random.normal(size=(ROWS, len(features))), random.integers(1, 9_000, ROWS)
    pd = random.uniform(0.1, 0.5, ROWS)
    served = Served(
        q=lending.NOW + np.arange(ROWS) * DAY // 8,
        values=values,
        amount=amount,
        pd=pd,
        own=np.ones(ROWS, dtype=bool),
        outcome=["approved", "declined"] * (ROWS // 2),
        merchant=["mer_1"] * ROWS,
        degraded=np.zeros(ROWS, dtype=bool),
        loans=[
            LoanEnd(lending.NOW, lending.NOW + DAY, bool(random.random() < probability)) for probability in pd
        ],
    )
    moments = dict.fromkeys(("since", "until", "observed_until"), lending.NOW + 90 * DAY)
    return monitor(
        bundle, lending.DEFINITIONS, TrainingSnapshot("r1", {}, values, amount, pd), served, **moments
    )


def test_a_model_that_goes_wrong_wakes_somebody(assembly):
    published = {
        (metric["MetricName"], tuple(sorted((each["Name"], each["Value"]) for each in metric["Dimensions"])))
        for metric in metrics(a_report(), assembly.stage)
    }
    watched = {}
    for alarm in assembly.resources("AWS::CloudWatch::Alarm").values():
        properties = alarm["Properties"]
        dimensions = tuple(sorted((each["Name"], str(each["Value"])) for each in properties["Dimensions"]))
        if properties["Namespace"] == NAMESPACE and ("service", SERVICE) in dimensions:
            watched[properties["MetricName"], dimensions] = properties
    assert set(watched) < published
    assert {name: metric["Threshold"] for (name, _), metric in watched.items()} == LIMITS
    for properties in watched.values():
        assert properties["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        assert (properties["Statistic"], properties["TreatMissingData"]) == ("Maximum", "notBreaching")
        assert properties["AlarmActions"]


def scheduled(assembly):
    [schedule] = [
        schedule["Properties"]
        for logical_id, schedule in assembly.resources("AWS::Scheduler::Schedule").items()
        if logical_id.startswith("observability/ModelMonitor")
    ]
    return schedule


def test_the_report_is_made_by_schedule_where_the_stage_says_so(dev, prod):
    assert scheduled(dev)["State"] == "DISABLED"
    assert scheduled(prod)["State"] == "ENABLED"
    assert scheduled(prod)["ScheduleExpression"] == "cron(0 5 * * ? *)"


def test_the_schedule_starts_the_job_that_the_image_holds(assembly):
    target = scheduled(assembly)["Target"]
    assert assembly.plain(target["Arn"]).endswith(":scheduler:::aws-sdk:sagemaker:createProcessingJob")
    job = json.loads(assembly.plain(target["Input"]))
    # botocore knows what the call takes; the two words in angle brackets are Scheduler's to fill in.
    filled = json.loads(json.dumps(job).replace("<aws.scheduler.execution-id>", "d32c5kddcf5bb8c3"))
    assert len(filled["ProcessingJobName"]) <= 63
    assert set(job) <= set(shape("CreateProcessingJobRequest").members)
    for name, each in (
        ("AppSpecification", "AppSpecification"),
        ("ProcessingResources", "ProcessingResources"),
        ("ProcessingOutputConfig", "ProcessingOutputConfig"),
    ):
        assert set(job[name]) <= set(shape(each).members)
    program, option, package = job["AppSpecification"]["ContainerEntrypoint"]
    assert (program, option) == ("python", "-m")
    assert importlib.util.find_spec(f"{package}.__main__")
    module = f"{package}.job"
    source = importlib.util.find_spec(module).loader.get_source(module)
    assert all(
        variable in source or variable.removesuffix("_BUCKET") in source for variable in job["Environment"]
    )
    [output] = job["ProcessingOutputConfig"]["Outputs"]
    assert output["S3Output"]["LocalPath"] == f"/opt/ml/processing/output/{output['OutputName']}"
    assert f'"output/{output["OutputName"]}"' in source


def shape(name: str):
    return botocore.session.get_session().get_service_model("sagemaker").shape_for(name)
