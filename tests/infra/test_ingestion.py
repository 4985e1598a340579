"""No event is lost on its way: bus, queue, dead-letter queues, archive, and an alarm for each of them."""

from cli.dlq.queues import QUEUES


def _dead_letter_queues(assembly):
    destinations = set()
    for queue in assembly.resources("AWS::SQS::Queue").values():
        redrive = queue["Properties"].get("RedrivePolicy")
        if redrive:
            destinations.add(redrive["deadLetterTargetArn"]["Fn::GetAtt"][0])
    for rule in assembly.resources("AWS::Events::Rule").values():
        for target in rule["Properties"]["Targets"]:
            destinations.add(target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0])
    for mapping in assembly.resources("AWS::Lambda::EventSourceMapping").values():
        failed = mapping["Properties"].get("DestinationConfig")
        if failed:
            destinations.add(failed["OnFailure"]["Destination"]["Fn::GetAtt"][0])
    return destinations


def test_each_dead_letter_queue_has_an_alarm_that_speaks(assembly):
    watched = {}
    for alarm in assembly.resources("AWS::CloudWatch::Alarm").values():
        properties = alarm["Properties"]
        if properties["MetricName"] == "ApproximateNumberOfMessagesVisible":
            queue = assembly.plain(properties["Dimensions"][0]["Value"]).strip("<>").partition(".")[0]
            watched[queue] = properties
    assert set(watched) == _dead_letter_queues(assembly)
    for properties in watched.values():
        assert (properties["Threshold"], properties["EvaluationPeriods"]) == (1, 1)
        assert properties["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        assert properties["AlarmActions"]


def test_the_terminal_program_knows_every_dead_letter_queue_and_its_outputs(assembly):
    alarms = {key.rpartition("/")[2][:-8] for key in assembly.resources("AWS::CloudWatch::Alarm")}
    assert {queue.alarm for queue in QUEUES} == {name for name in alarms if name.endswith("NotEmpty")}
    outputs = {name for template in assembly.templates.values() for name in template.get("Outputs", ())}
    for queue in QUEUES:
        assert queue.output in outputs
        assert queue.source is None or queue.source in outputs


def test_what_wakes_somebody(assembly):
    metrics = {
        each["Properties"]["MetricName"] for each in assembly.resources("AWS::CloudWatch::Alarm").values()
    }
    assert metrics >= {"Errors", "Duration", "Throttles", "5XXError", "ExecutionsFailed", "BundlesFailed"}


def test_a_bad_event_leaves_the_queue_after_five_deliveries(assembly):
    resources = assembly.resources("AWS::SQS::Queue").items()
    queues = {key.partition("/")[2][:-8]: each["Properties"] for key, each in resources}
    assert set(queues) == {
        "Events",
        "EventsDlq",
        "StaleItems",
        "StaleItemsDlq",
        "StreamsDlq",
        "Undelivered",
    }
    assert queues["Events"]["RedrivePolicy"]["maxReceiveCount"] == 5
    assert queues["EventsDlq"]["MessageRetentionPeriod"] >= queues["Events"]["MessageRetentionPeriod"]
    timeout = assembly.functions()["update_features"]["Timeout"]
    assert queues["Events"]["VisibilityTimeout"] >= 6 * timeout


def test_events_are_applied_in_batches_that_may_fail_in_part(assembly):
    mappings = assembly.resources("AWS::Lambda::EventSourceMapping").items()
    [properties] = [each["Properties"] for key, each in mappings if key.startswith("ingestion/")]
    assert properties["BatchSize"] == 100
    assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert properties["ScalingConfig"] == {"MaximumConcurrency": 2}


def test_an_event_id_is_remembered_as_long_as_it_can_come_back(assembly):
    days = 1 + 1  # a table's stream, and the bus itself
    for key, queue in assembly.resources("AWS::SQS::Queue").items():
        if key.startswith("ingestion/Events"):
            days += queue["Properties"]["MessageRetentionPeriod"] // 86_400
    variables = assembly.functions()["update_features"]["Environment"]["Variables"]
    assert int(variables["REDELIVERY_HORIZON_DAYS"]) == days


def test_events_of_lender_platform_and_history_reach_queue_and_archive(assembly):
    rules = [rule["Properties"] for rule in assembly.resources("AWS::Events::Rule").values()]
    pattern = {"source": ["candor.lender", "candor.platform", "candor.history"]}
    assert [rule["EventPattern"] for rule in rules] == 2 * [pattern]
    targets = sorted(assembly.plain(rule["Targets"][0]["Arn"])[1:-13] for rule in rules)
    assert targets == ["ArchiveStream", "Events"]


def test_the_archive_keeps_when_the_bus_took_an_event_by_its_own_clock(assembly):
    rules = [rule["Properties"]["Targets"] for rule in assembly.resources("AWS::Events::Rule").values()]
    transformed = [target["InputTransformer"] for (target,) in rules if "InputTransformer" in target]
    template = '{"ingestion_time":<aws.events.event.ingestion-time>,"event":<aws.events.event.json>}'
    assert transformed == [{"InputTemplate": template}]


def test_the_archive_holds_gzipped_lines_below_one_prefix_for_each_stream(assembly):
    prefixes = set()
    for stream in assembly.resources("AWS::KinesisFirehose::DeliveryStream").values():
        destination = stream["Properties"]["ExtendedS3DestinationConfiguration"]
        assert destination["CompressionFormat"] == "GZIP"
        [processor] = destination["ProcessingConfiguration"]["Processors"]
        assert processor["Type"] == "AppendDelimiterToRecord"
        prefixes.add(destination["Prefix"])
    assert prefixes == {"events/", "commits/", "decisions/", "shadows/"}
