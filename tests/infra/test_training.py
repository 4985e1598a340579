"""The retraining's steps, in order, with what happens when one fails."""

import json

from candor.registry.gates import Thresholds
from candor.registry.guard import GuardLimits
from candor.registry.training_run import STEPS as JOBS

QUESTIONS = {"DatasetBuilt": "dataset", "ModelTrained": "train", "ModelEvaluated": "assess"}
STEPS = ["PrepareTraining", "BuildDataset", "TrainModel", "EvaluateModel", "RegisterModel", "Gate"]


def followed(machine, *, done):
    """The states from the first to the gate, where the jobs are done already or not."""
    state, seen = machine["StartAt"], []
    while state != "Gate":
        seen.append(state)
        step = machine["States"][state]
        if state in QUESTIONS:
            [choice] = step["Choices"]
            assert choice["Variable"] == f"$.steps.{QUESTIONS[state]}.done"
            assert choice["BooleanEquals"] is True
            state = choice["Next"] if done else step["Default"]
        else:
            state = step["Next"]
    return [*(name for name in seen if name not in QUESTIONS), state]


def test_the_steps_follow_each_other_in_jsonpath(assembly):
    machine = assembly.state_machine()
    assert machine["QueryLanguage"] == "JSONPath"
    assert followed(machine, done=False) == STEPS


def test_what_is_done_is_passed_over(assembly):
    assert followed(assembly.state_machine(), done=True) == ["PrepareTraining", "RegisterModel", "Gate"]


def test_jobs_are_named_and_evaluated_as_the_programs_expect(assembly):
    states = assembly.state_machine()["States"]
    names = {
        "dataset": states["BuildDataset"]["Parameters"]["ProcessingJobName.$"],
        "train": states["TrainModel"]["Parameters"]["TrainingJobName.$"],
        "assess": states["EvaluateModel"]["Parameters"]["ProcessingJobName.$"],
    }
    assert names == {name: f"$.steps.{name}.job" for name in JOBS}
    request = states["EvaluateModel"]["Parameters"]
    assert request["AppSpecification"]["ContainerEntrypoint"] == ["python", "-m", "training.evaluate"]
    assert request["AppSpecification"]["ContainerArguments.$"] == "States.Array('--run', $.run)"
    places = {
        each["S3Input"]["LocalPath"]: each["S3Input"]["S3Uri.$"] for each in request["ProcessingInputs"]
    }
    assert places == {
        "/opt/ml/processing/input/dataset": "$.dataset_uri",
        "/opt/ml/processing/input/model": "$.packed_uri",
        "/opt/ml/processing/input/champion": "$.champion_uri",
    }
    [left] = request["ProcessingOutputConfig"]["Outputs"]
    assert left["S3Output"]["LocalPath"] == "/opt/ml/processing/output/evaluation"
    assert left["S3Output"]["S3Uri.$"] == "$.evaluation_uri"


def test_a_job_that_failed_by_no_fault_of_its_own_is_tried_again_after_a_wait(assembly):
    states = assembly.state_machine()["States"]
    for job in ("BuildDataset", "TrainModel", "EvaluateModel"):
        assert [each["Next"] for each in states[job]["Catch"]] == ["WorthAnotherTry"]
    [worth] = states["WorthAnotherTry"]["Choices"]
    present, few, fault = worth["And"]
    assert (present["Variable"], present["IsPresent"]) == ("$.error.Cause", True)
    assert (few["Variable"], few["NumericLessThan"]) == ("$.attempt", 3)
    assert "*CapacityError*" in {each["StringMatches"] for each in fault["Or"]}
    assert states["WorthAnotherTry"]["Default"] == "NotifyFailure"
    assert states[worth["Next"]] == {"Type": "Wait", "SecondsPath": "$.wait_s", "Next": "KeepOrder"}
    assert states["KeepOrder"]["Next"] == "PrepareTraining"
    assert states["KeepOrder"]["Parameters"] == {"run.$": "$.run", "promote.$": "$.promote"}


def test_a_job_that_outlived_its_execution_is_waited_for_at_least_as_long_as_it_may_take(assembly):
    retries = assembly.state_machine()["States"]["PrepareTraining"]["Retry"]
    [retry] = [each for each in retries if each["ErrorEquals"] == ["StepUnderWay"]]
    assert retry["IntervalSeconds"] * retry["MaxAttempts"] >= 4 * 3600


def test_thresholds_and_limits_are_those_that_the_code_reads(assembly):
    functions = assembly.functions()
    gates = functions["register_model"]["Environment"]["Variables"]["GATES"]
    limits = functions["guard_models"]["Environment"]["Variables"]["GUARD"]
    assert Thresholds.parse(gates).min_auc == json.loads(gates)["min_auc"]
    assert GuardLimits.parse(limits).hours == json.loads(limits)["hours"] > 0


def test_schedules_start_what_they_are_for(dev, prod):
    schedules = {
        stage: {
            key.partition("Schedules")[2][:5]: each["Properties"]
            for key, each in assembly.resources("AWS::Scheduler::Schedule").items()
        }
        for stage, assembly in (("dev", dev), ("prod", prod))
    }
    assert [schedules[stage]["Retra"]["State"] for stage in ("dev", "prod")] == ["DISABLED", "ENABLED"]
    assert schedules["prod"]["Retra"]["ScheduleExpression"] == "cron(0 3 ? * MON *)"
    assert json.loads(schedules["prod"]["Retra"]["Target"]["Input"]) == {
        "scheduled_at": "<aws.scheduler.scheduled-time>"
    }
    assert {schedules[stage]["Guard"]["State"] for stage in ("dev", "prod")} == {"ENABLED"}


def test_every_step_is_bounded_and_its_failure_is_reported(assembly):
    states = assembly.state_machine()["States"]
    tasks = {name: each for name, each in states.items() if each["Type"] == "Task"}
    notices = {name for name, each in tasks.items() if each["Resource"].endswith(":sns:publish")}
    for name in set(tasks) - notices:
        assert tasks[name]["TimeoutSeconds"] > 0
        assert tasks[name]["Retry"]
        [caught] = tasks[name]["Catch"]
        assert caught["ErrorEquals"] == ["States.ALL"]
        assert caught["Next"] in notices | {"WorthAnotherTry"}
    assert states["NotifyFailure"]["Next"] == "RetrainFailed"
    assert {name for name, each in states.items() if each["Type"] == "Fail"} == {
        "RetrainFailed",
        "GateFailed",
    }


def test_jobs_wait_and_leave_the_runs_state_as_it_was(assembly):
    states = assembly.state_machine()["States"]
    for name, action in (
        ("BuildDataset", "createProcessingJob"),
        ("TrainModel", "createTrainingJob"),
        ("EvaluateModel", "createProcessingJob"),
    ):
        assert states[name]["Resource"].endswith(f":states:::sagemaker:{action}.sync")
        assert states[name]["ResultPath"] is None


def test_the_gate_alone_promotes_where_policy_may(dev):
    states = dev.state_machine()["States"]
    promoted, passed = states["Gate"]["Choices"]
    assert {each["Variable"] for each in promoted["And"]} == {
        "$.registration.passed",
        "$.registration.compared",
        "$.promote",
    }
    assert promoted["Next"] == "PromoteModel"
    assert (passed["Variable"], passed["Next"]) == ("$.registration.passed", "Succeeded")
    assert states[states["Gate"]["Default"]]["Next"] == "GateFailed"


def test_a_person_promotes_in_prod(prod):
    states = prod.state_machine()["States"]
    assert "PromoteModel" not in states
    assert "promote_model" in prod.functions()


def test_the_machine_may_tag_the_jobs_that_it_waits_for(assembly):
    policies = [
        each["Properties"]["PolicyDocument"]["Statement"]
        for key, each in assembly.resources("AWS::IAM::Policy").items()
        if key.startswith("training/RetrainRole")
    ]
    tagging = [
        each for statements in policies for each in statements if "sagemaker:AddTags" in each["Action"]
    ]
    resources = [assembly.plain(each["Resource"]) for each in tagging]
    assert len(resources) == 2
    assert all(f"-job/candor-{assembly.stage}-*" in each for each in resources)


def test_spark_stops_by_itself_and_may_not_grow_without_end(assembly):
    [application] = assembly.resources("AWS::EMRServerless::Application").values()
    properties = application["Properties"]
    assert (properties["Type"], properties["ReleaseLabel"]) == ("SPARK", "emr-spark-8.0.0")
    assert properties["AutoStopConfiguration"] == {"Enabled": True, "IdleTimeoutMinutes": 5}
    assert properties["MaximumCapacity"] == {"Cpu": "32 vCPU", "Memory": "128 GB"}
    assert "InitialCapacity" not in properties  # which would be paid for while nothing runs
