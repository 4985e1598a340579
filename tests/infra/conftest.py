"""One synthesis of each stage per session, by the real `python app.py`: exit code 0 also says nag-clean."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("dev", "prod")


@dataclass(frozen=True)
class Assembly:
    """The synthesized templates of one stage by unit, with the lookups that tests need."""

    stage: str
    folder: Path
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """Logical id → resource, of one CloudFormation type."""
        return {
            f"{unit}/{logical_id}": resource
            for unit, template in self.templates.items()
            for logical_id, resource in template["Resources"].items()
            if resource["Type"] == kind
        }

    def functions(self) -> dict[str, dict[str, Any]]:
        """Function name (its directory) → properties."""
        every = [resource["Properties"] for resource in self.resources("AWS::Lambda::Function").values()]
        return {each["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]: each for each in every}

    def plain(self, value: Any) -> Any:
        """`value` with intrinsic functions as text: <LogicalId>, <LogicalId.Attribute>, imports resolved."""
        if isinstance(value, list):
            return [self.plain(each) for each in value]
        if not isinstance(value, dict):
            return value
        name, argument = next(iter(value.items()), ("", None))
        spelled = {
            "Ref": lambda: f"<{argument}>",
            "Fn::GetAtt": lambda: f"<{'.'.join(argument)}>",
            "Fn::ImportValue": lambda: self.plain(self._exported(argument)),
            "Fn::Join": lambda: argument[0].join(str(self.plain(each)) for each in argument[1]),
            "Fn::Select": lambda: f"<part {argument[0]}>",
        }
        if name in spelled:
            return spelled[name]()
        return {key: self.plain(each) for key, each in value.items()}

    def _exported(self, name: str) -> Any:
        for template in self.templates.values():
            for output in template.get("Outputs", {}).values():
                if output.get("Export", {}).get("Name") == name:
                    return output["Value"]
        raise LookupError(f"no stack exports {name}")

    def state_machine(self, name: str = "Retrain") -> dict[str, Any]:
        """A state machine's definition, as Step Functions reads it."""
        [machine] = [
            each
            for key, each in self.resources("AWS::StepFunctions::StateMachine").items()
            if key.startswith(f"training/{name}")
        ]
        definition: dict[str, Any] = json.loads(self.plain(machine["Properties"]["DefinitionString"]))
        return definition


def _start(stage: str, folder: Path) -> subprocess.Popen[str]:
    """Synthesize without credentials and without building layers; a Docker call would find no Docker."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"CDK_OUTDIR": str(folder), "CDK_VALIDATION": "false", "DOCKER_HOST": "tcp://127.0.0.1:1"}
    line = [sys.executable, "app.py", "-c", f"stage={stage}", "-c", "aws:cdk:bundling-stacks=[]"]
    return subprocess.Popen(
        line, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.fixture(scope="session")
def assemblies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Assembly]:
    folders = {stage: tmp_path_factory.mktemp(stage) for stage in STAGES}
    running = {stage: _start(stage, folder) for stage, folder in folders.items()}
    synthesized = {}
    for stage, process in running.items():
        printed, _ = process.communicate(timeout=120)
        if process.returncode:
            pytest.fail(f"python app.py -c stage={stage} ended {process.returncode}:\n{printed[-8000:]}")
        templates = {
            path.name.removesuffix(".template.json").rpartition("-")[2]: json.loads(path.read_text("utf-8"))
            for path in sorted(folders[stage].glob("*.template.json"))
        }
        synthesized[stage] = Assembly(stage, folders[stage], templates)
    return synthesized


@pytest.fixture(params=STAGES)
def assembly(request: pytest.FixtureRequest, assemblies: dict[str, Assembly]) -> Assembly:
    return assemblies[request.param]


@pytest.fixture
def dev(assemblies: dict[str, Assembly]) -> Assembly:
    return assemblies["dev"]


@pytest.fixture
def prod(assemblies: dict[str, Assembly]) -> Assembly:
    return assemblies["prod"]
