"""The retraining's steps, in order, with what happens when one fails."""

STEPS = ["PrepareTraining", "BuildDataset", "TrainModel", "RegisterModel", "Gate"]


def test_the_steps_follow_each_other_in_jsonpath(assembly):
    machine = assembly.state_machine()
    assert machine["QueryLanguage"] == "JSONPath"
    state, seen = machine["StartAt"], []
    while state != "Gate":
        seen.append(state)
        state = machine["States"][state]["Next"]
    assert [*seen, state] == STEPS


def test_every_step_is_bounded_and_its_failure_is_told(assembly):
    states = assembly.state_machine()["States"]
    tasks = {name: each for name, each in states.items() if each["Type"] == "Task"}
    notices = {name for name, each in tasks.items() if each["Resource"].endswith(":sns:publish")}
    for name in set(tasks) - notices:
        assert tasks[name]["TimeoutSeconds"] > 0
        assert tasks[name]["Retry"]
        [caught] = tasks[name]["Catch"]
        assert caught["ErrorEquals"] == ["States.ALL"]
        assert caught["Next"] in notices
    assert states["NotifyFailure"]["Next"] == "RetrainFailed"
    assert {name for name, each in states.items() if each["Type"] == "Fail"} == {
        "RetrainFailed",
        "GateFailed",
    }


def test_jobs_wait_and_leave_the_runs_state_as_it_was(assembly):
    states = assembly.state_machine()["States"]
    for name, action in (("BuildDataset", "createProcessingJob"), ("TrainModel", "createTrainingJob")):
        assert states[name]["Resource"].endswith(f":states:::sagemaker:{action}.sync")
        assert states[name]["ResultPath"] is None


def test_the_gate_alone_promotes_where_policy_may(dev):
    states = dev.state_machine()["States"]
    promoted, passed = states["Gate"]["Choices"]
    assert {each["Variable"] for each in promoted["And"]} == {"$.registration.passed", "$.promote"}
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
