"""A small system end to end, over the APIs that any AWS client speaks."""

import gzip
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.errors import LocalError, PortBusy, StateInUse
from local.system import LocalSystem

pytestmark = pytest.mark.system

PREPARE = (
    "import os, pathlib; root = pathlib.Path(os.environ['PROCESSING_ROOT']);"
    "raw = (root / 'input/raw/part.txt').read_text();"
    "(root / 'output/dataset/rows.txt').write_text(raw + os.environ['WORD'])"
)
TRAIN = (
    "import os, json, pathlib; rows = pathlib.Path(os.environ['SM_CHANNEL_DATASET'], 'rows.txt').read_text();"
    "model = {'rows': rows, 'depth': json.loads(os.environ['SM_HPS'])['depth']};"
    "pathlib.Path(os.environ['SM_MODEL_DIR'], 'model.json').write_text(json.dumps(model))"
)
BOTH = f"import os\nif 'PROCESSING_ROOT' in os.environ: exec({PREPARE!r})\nelse: exec({TRAIN!r})"
BROKEN = f"import os\nif 'PROCESSING_ROOT' in os.environ: exec({PREPARE!r})\nelse: raise SystemExit('no signal in it')"


@pytest.fixture(scope="module")
def system(small_assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    with LocalSystem(small_assembly, tmp_path_factory.mktemp("state"), 0, say=lambda _: None) as system:
        yield system


def entry(n: int, **detail: Any) -> dict[str, Any]:
    body = json.dumps({"event_id": f"evt_{n}", **detail})
    return {"Source": "test", "DetailType": "made", "Detail": body, "EventBusName": "small-bus"}


def archived(system: LocalSystem) -> list[str]:
    s3 = system.client("s3")
    bucket = system.outputs["ArchiveName"]
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix="events/").get("Contents", [])]
    bodies = [gzip.decompress(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys]
    return [json.loads(line)["detail"]["event_id"] for body in bodies for line in body.splitlines()]


def stored(system: LocalSystem) -> set[str]:
    pages = system.client("dynamodb").get_paginator("scan").paginate(TableName=system.outputs["TableName"])
    return {item["pk"]["S"] for page in pages for item in page["Items"]}


def run(system: LocalSystem, **given: Any) -> dict[str, Any]:
    states = system.client("stepfunctions")
    started = states.start_execution(stateMachineArn=system.outputs["MachineArn"], input=json.dumps(given))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        execution: dict[str, Any] = states.describe_execution(executionArn=started["executionArn"])
        if execution["status"] != "RUNNING":
            return execution
        time.sleep(0.05)
    raise AssertionError("the execution did not end")


def test_events_travel_from_the_bus_to_function_table_and_archive(system: LocalSystem) -> None:
    events = system.client("events")
    answer = events.put_events(Entries=[entry(n) for n in range(10)])
    assert answer["FailedEntryCount"] == 0
    system.publish([entry(n) for n in range(10, 40)])
    system.drain(20)
    assert stored(system) >= {f"evt_{n}" for n in range(40)}
    assert system.flush() >= 1
    assert sorted(archived(system)) == sorted(f"evt_{n}" for n in range(40))
    with pytest.raises(events.exceptions.ClientError, match="Entries must be 1 to 10"):
        events.put_events(Entries=[entry(0)] * 11)


def test_a_poison_message_reaches_the_dead_letters_and_stops_nobody(system: LocalSystem) -> None:
    system.publish([entry(100, poison=True), entry(101)])
    system.drain(20)
    assert "evt_101" in stored(system)
    sqs = system.client("sqs")
    (letter,) = sqs.receive_message(QueueUrl=system.outputs["LettersUrl"], WaitTimeSeconds=2)["Messages"]
    assert json.loads(letter["Body"])["detail"]["event_id"] == "evt_100"
    sqs.delete_message(QueueUrl=system.outputs["LettersUrl"], ReceiptHandle=letter["ReceiptHandle"])


def test_the_queue_api_and_the_poller_share_one_queue(system: LocalSystem) -> None:
    sqs, url = system.client("sqs"), system.outputs["LettersUrl"]
    attributes = {"why": {"DataType": "String", "StringValue": "late"}}
    sqs.send_message(QueueUrl=url, MessageBody="plain", MessageAttributes=attributes)
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "1", "MessageBody": "batched"}])
    assert len(system.queue(url)) == 2
    counted = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counted["ApproximateNumberOfMessages"] == "2"
    messages = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
    )["Messages"]
    assert [message["Body"] for message in messages] == ["plain", "batched"]
    assert messages[0]["MessageAttributes"]["why"]["StringValue"] == "late"
    assert messages[0]["Attributes"]["ApproximateReceiveCount"] == "1"
    sqs.change_message_visibility(
        QueueUrl=url, ReceiptHandle=messages[0]["ReceiptHandle"], VisibilityTimeout=0
    )
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "plain"
    handles = [
        {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)
    ]
    assert len(sqs.delete_message_batch(QueueUrl=url, Entries=handles)["Successful"]) == 2
    assert len(system.queue(url)) == 0
    with pytest.raises(sqs.exceptions.ReceiptHandleIsInvalid):
        sqs.delete_message(QueueUrl=url, ReceiptHandle="invented")


def test_the_state_machine_calls_the_function_and_trains(system: LocalSystem) -> None:
    bucket, s3 = system.outputs["ArchiveName"], system.client("s3")
    s3.put_object(Bucket=bucket, Key="raw/part.txt", Body=b"rows,")
    ended = run(system, run="good", script=BOTH)
    assert ended["status"] == "SUCCEEDED", ended
    output = json.loads(ended["output"])
    assert output == {"status": "Completed", "model": f"s3://{bucket}/models/good-train/output/model.tar.gz"}
    packed = gzip.decompress(
        s3.get_object(Bucket=bucket, Key="models/good-train/output/model.tar.gz")["Body"].read()
    )
    assert b'{"rows": "rows,given", "depth": 3}' in packed
    described = system.client("sagemaker").describe_training_job(TrainingJobName="good-train")
    assert described["TrainingJobStatus"] == "Completed"


def test_a_failing_training_is_caught_with_its_reason(system: LocalSystem) -> None:
    system.client("s3").put_object(Bucket=system.outputs["ArchiveName"], Key="raw/part.txt", Body=b"rows,")
    ended = run(system, run="bad", script=BROKEN)
    assert (ended["status"], ended["error"]) == ("FAILED", "Caught")
    assert "AlgorithmError: no signal in it, exit code: 1" in ended["cause"]


def test_a_failing_function_is_caught_by_its_error_type(system: LocalSystem) -> None:
    ended = run(system, run="x", fail=True)
    assert (ended["status"], ended["error"]) == ("FAILED", "Caught")
    assert "asked to fail" in ended["cause"]


def test_functions_are_invocable_through_the_lambda_api(system: LocalSystem) -> None:
    functions, name = system.client("lambda"), system.outputs["StepName"]
    answer = functions.invoke(FunctionName=name, Payload=json.dumps({"run": "r"}))
    assert json.loads(answer["Payload"].read()) == {"run": "r", "script": "", "via": name}
    failed = functions.invoke(FunctionName=f"{name}:live", Payload=b'{"fail": true}')
    assert failed["FunctionError"] == "Unhandled"
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.invoke(FunctionName="nobody", Payload=b"{}")


def test_the_tables_keep_what_their_template_says(system: LocalSystem) -> None:
    tables, name = system.client("dynamodb"), system.outputs["TableName"]
    described = tables.describe_table(TableName=name)["Table"]
    assert described["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    expiry = tables.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}


def test_expired_items_are_swept(system: LocalSystem) -> None:
    from local.aws.ttl import ExpirySweep

    tables, name = system.client("dynamodb"), system.outputs["TableName"]
    for key, ttl in (("old", "1000"), ("new", "9999999999")):
        tables.put_item(TableName=name, Item={"pk": {"S": key}, "ttl": {"N": ttl}})
    assert ExpirySweep(tables).sweep(2000) == 1
    assert "old" not in stored(system)
    assert "new" in stored(system)


def test_a_state_folder_has_one_system_and_says_so_before_the_port_does(
    system: LocalSystem, small_assembly: Path
) -> None:
    port = int(system.url.rpartition(":")[2])
    with pytest.raises(StateInUse, match=rf"is in use by process {os.getpid()}: stop that one first"):
        LocalSystem(small_assembly, system._state.path, port).__enter__()


def test_a_busy_port_is_refused_in_one_line(small_assembly: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            PortBusy, match=rf"port {port} cannot be served \(address already in use\): choose another"
        ):
            LocalSystem(small_assembly, tmp_path, port).__enter__()


def test_a_process_has_one_system(system: LocalSystem, small_assembly: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="already runs a local system"):
        LocalSystem(small_assembly, tmp_path, 0).__enter__()
