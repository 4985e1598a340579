"""Test program: loads a lender's history into a state folder, or runs one retraining and prints its states."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from candor.clock import SystemClock
from candor.registry.registry import Registry
from demo.run import Demo
from demo.sources.folder import from_folder
from local.system import LocalSystem

POLL_S = 0.005
ORDER = {"run": "r1", "as_of": "2017-07-22T00:00:00Z", "seeds": [1, 2], "promote": True}


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def load(system: LocalSystem, data: Path) -> None:
    Demo(system, from_folder(data), Console(quiet=True), SystemClock().now_ms()).load()
    system.flush()


def retrain(system: LocalSystem) -> dict[str, Any]:
    """Run the retraining, printing every state that is entered; returns its status and failed events."""
    states = system.client("stepfunctions")
    execution = states.start_execution(
        stateMachineArn=system.outputs["RetrainStateMachineArn"], name=ORDER["run"], input=json.dumps(ORDER)
    )["executionArn"]
    printed = 0
    while True:
        status = states.describe_execution(executionArn=execution)["status"]
        events = states.get_execution_history(executionArn=execution)["events"]
        for event in events[printed:]:
            entered = event.get("stateEnteredEventDetails")
            if entered:
                say(f"ENTERED {entered['name']}")
        printed = len(events)
        if status != "RUNNING":
            failed = [event for event in events if event["type"].endswith("Failed")]
            return {"status": status, "failed": json.loads(json.dumps(failed, default=str))}
        time.sleep(POLL_S)


def main() -> None:
    what, assembly, state, *rest = sys.argv[1:]
    with LocalSystem(assembly, state, 0, say=lambda _: None) as system:
        os.environ.update(system.endpoints)
        if what == "load":
            load(system, Path(rest[0]))
            return
        ended = retrain(system)
        registry = Registry(system.outputs["RegistryTableName"])
        bundle = registry.pointer().bundle
        steps = [(line.before, line.after) for line in registry.history(bundle)] if bundle else []
        say("ENDED " + json.dumps({**ended, "bundle": bundle, "steps": steps}))


if __name__ == "__main__":
    main()
