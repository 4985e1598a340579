"""Stale items are healed at a bounded rate, from an index that is kept current; failures raise alarms."""

import json

from history.index.kinds import INDEX_PREFIX, KINDS
from tests.infra.conftest import ROOT

MINUTE_S = 60


def _worker(assembly):
    [mapping] = [
        each["Properties"]
        for each in assembly.resources("AWS::Lambda::EventSourceMapping").values()
        if "HealFeatures" in assembly.plain(each["Properties"]["FunctionName"])
    ]
    return mapping


def _queue(assembly, name):
    [queue] = [
        each["Properties"]
        for key, each in assembly.resources("AWS::SQS::Queue").items()
        if key.partition("/")[2][:-8] == name
    ]
    return queue


def _alarms(assembly):
    return {
        key.partition("/")[2][:-8]: each["Properties"]
        for key, each in assembly.resources("AWS::CloudWatch::Alarm").items()
    }


def test_items_are_healed_few_at_a_time_and_may_fail_in_part(assembly):
    mapping = _worker(assembly)
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BatchSize"] <= 10


def test_a_message_outlives_its_invocation_and_is_kept_when_it_is_given_up(assembly):
    queue, dead = _queue(assembly, "StaleItems"), _queue(assembly, "StaleItemsDlq")
    timeout = assembly.functions()["heal_features"]["Timeout"]
    assert queue["VisibilityTimeout"] >= 6 * timeout
    assert dead["MessageRetentionPeriod"] >= queue["MessageRetentionPeriod"]
    assert queue["SqsManagedSseEnabled"] is dead["SqsManagedSseEnabled"] is True


def test_an_item_waits_as_long_as_the_archive_takes(assembly):
    [stream] = [
        each["Properties"]["ExtendedS3DestinationConfiguration"]
        for each in assembly.resources("AWS::KinesisFirehose::DeliveryStream").values()
        if each["Properties"]["ExtendedS3DestinationConfiguration"]["Prefix"] == "commits/"
    ]
    windows = [
        each["Properties"].get("MaximumBatchingWindowInSeconds", 0)
        for each in assembly.resources("AWS::Lambda::EventSourceMapping").values()
        if "LogCommits" in assembly.plain(each["Properties"]["FunctionName"])
    ]
    lag = int(assembly.functions()["heal_features"]["Environment"]["Variables"]["ARCHIVE_LAG_S"])
    assert stream["BufferingHints"]["IntervalInSeconds"] + max(windows) < lag < 5 * MINUTE_S


def test_somebody_is_woken_after_a_quarter_of_an_hour(assembly):
    alarms = _alarms(assembly)
    late, stale = alarms["StaleItemsLate"], alarms["ItemsStayStale"]
    assert (late["MetricName"], late["Threshold"]) == ("ApproximateAgeOfOldestMessage", 900)
    assert (stale["MetricName"], stale["Threshold"], stale["Statistic"]) == ("StaleSeconds", 900, "Maximum")
    for name in ("ItemsStayStale", "IndexBehind"):
        dimensions = {each["Name"]: each["Value"] for each in alarms[name]["Dimensions"]}
        assert dimensions["stage"] == assembly.stage
        assert dimensions["service"] in assembly.functions()
    for name in ("HealErrors", "IndexErrors", "IndexBehind", "StaleItemsDlqNotEmpty"):
        assert alarms[name]["AlarmActions"]


def test_functions_publish_what_the_alarms_watch(assembly):
    for name in ("ItemsStayStale", "IndexBehind"):
        alarm = _alarms(assembly)[name]
        [service] = [each["Value"] for each in alarm["Dimensions"] if each["Name"] == "service"]
        source = (ROOT / "functions" / service / "handler.py").read_text("utf-8")
        assert f'add_metric("{alarm["MetricName"]}"' in source
        assert 'set_default_dimensions(stage=os.environ["STAGE"])' in source


def test_the_index_is_kept_by_the_hour_and_looked_through_by_the_day(assembly):
    schedules = {
        key.partition("/")[2][:-8]: each["Properties"]
        for key, each in assembly.resources("AWS::Scheduler::Schedule").items()
        if key.startswith("history/")
    }
    given = {name: json.loads(each["Target"]["Input"]) for name, each in schedules.items()}
    assert given == {"HealingHourly": {}, "HealingDaily": {"whole": True}}
    assert schedules["HealingHourly"]["ScheduleExpression"].startswith("cron(20 * ")
    assert {each.get("State", "ENABLED") for each in schedules.values()} == {"ENABLED"}


def test_the_indexer_has_time_for_the_object_that_it_begins(assembly):
    function = assembly.functions()["index_archive"]
    assert int(function["Environment"]["Variables"]["OBJECT_SECONDS"]) < function["Timeout"] == 900
    assert function["EphemeralStorage"] == {"Size": 4096}


def test_code_and_templates_name_the_same_prefixes(assembly):
    read = {
        assembly.plain(resource).partition("/")[2]
        for policy in assembly.resources("AWS::IAM::Policy").values()
        if "HealingIndexArchive" in json.dumps(policy["Properties"]["Roles"])
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Action"] == "s3:GetObject"
        for resource in statement["Resource"]
    }
    assert read == {f"{prefix}*" for prefix in (INDEX_PREFIX, *(kind.prefix for kind in KINDS))}


def test_no_old_version_of_an_index_object_stays(assembly):
    rules = [
        rule
        for bucket in assembly.resources("AWS::S3::Bucket").values()
        for rule in bucket["Properties"]["LifecycleConfiguration"]["Rules"]
        if rule.get("Prefix") == INDEX_PREFIX
    ]
    assert [rule["NoncurrentVersionExpiration"] for rule in rules] == [{"NoncurrentDays": 1}]
    assert "ExpirationInDays" not in rules[0]
