"""`make run` on an existing state after the lender's declarations changed: views are filled, a model is trained."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.docs.test_extending import copy_tree
from tests.system.contents import Account
from tests.system.running import ROOT, Running, environment
from tests.system.small_lender import CHECKOUTS, write_small_lender

pytestmark = pytest.mark.deep

EXAMPLE = re.search(
    r"^```python\n(customer_failures = .*?)^```",
    (ROOT / "docs/how-to/add-a-feature.md").read_text(encoding="utf-8"),
    re.DOTALL | re.MULTILINE,
)
"""First example of the page: the view with one window more."""

NEW = ["customer_failures.count.7d", "customer_repayments.paid.30d"]


@dataclass(frozen=True)
class Tree:
    """Copy of the tree with an assembly of its own."""

    root: Path

    @property
    def assembly(self) -> Path:
        return self.root / "cdk.out"

    def synthesize(self) -> None:
        done = subprocess.run(
            [sys.executable, "app.py"],
            cwd=self.root,
            env=environment(self.root, CDK_OUTDIR=str(self.assembly), CDK_VALIDATION="false"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def change(self) -> None:
        """Apply the example of the page, and a second window to a view that the small lender has events of."""
        views = self.root / "layers/lender/python/lender/views.py"
        text = views.read_text(encoding="utf-8")
        assert EXAMPLE is not None
        text, examples = re.subn(
            r"^customer_failures = .*?^\)\n", EXAMPLE[1], text, flags=re.DOTALL | re.MULTILINE
        )
        text, windows = re.subn(
            r'(customer_repayments = .*?windows=\[)"lifetime"', r'\1"30d", "lifetime"', text, flags=re.DOTALL
        )
        assert (examples, windows) == (1, 1)
        views.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Changed:
    """Output of the run before the change, the system after it, and its features."""

    before: str
    running: Running
    features: list[str]

    def figure(self, name: str) -> str:
        """First figure of this name in the report after the change."""
        return re.search(rf"\b{name}=(\S+)", self.running.stdout)[1]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changed]:
    tree, state = Tree(tmp_path_factory.mktemp("tree")), tmp_path_factory.mktemp("state")
    data = str(write_small_lender(tmp_path_factory.mktemp("data")))
    copy_tree(tree.root)
    tree.synthesize()
    first = Running(tree.assembly, state, root=tree.root, DATA=data, ONCE="1").result()
    assert first.code == 0, first.stderr
    tree.change()
    tree.synthesize()
    names = "import json, lender; print(json.dumps(lender.DEFINITIONS.features))"
    listed = subprocess.run(
        [sys.executable, "-c", names], env=environment(tree.root), capture_output=True, text=True, check=True
    )
    running = Running(tree.assembly, state, root=tree.root, DATA=data)
    try:
        running.until_ready()
        yield Changed(first.stdout, running, json.loads(listed.stdout))
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGINT)


def test_the_changed_views_alone_are_filled(changed: Changed):
    filled = re.findall(
        r"^view (\w+) holds the archive: (\d+) events of (\d+) items, (\d+) ",
        changed.running.stdout,
        re.MULTILINE,
    )

    assert [name for name, *_ in filled] == ["customer_repayments", "customer_failures"]
    assert all(int(number) > 0 for number in filled[0][1:])
    assert "holds the archive" not in changed.before


def test_a_model_is_trained_on_the_new_definitions_and_promoted(changed: Changed):
    runs = re.findall(r"^retrained and promoted: run (\S+)$", changed.running.stdout, re.MULTILINE)

    assert len(runs) == 1
    assert f"run {runs[0]}" not in changed.before
    assert set(NEW) <= set(changed.features)


def test_the_report_ends_without_a_traceback_and_says_what_it_left_out(changed: Changed):
    assert changed.running.stderr == ""
    assert changed.figure("earlier_definitions") == str(CHECKOUTS)
    assert changed.figure("parity") == "n/a"
    assert 0.5 < float(changed.figure("auc_decided")) <= 1
    rows = [json.loads(line) for line in Path(changed.figure("rows")).read_text().splitlines()]
    assert len(rows) == CHECKOUTS
    for row in rows:
        assert set(changed.features) - set(row["vector"]) >= set(NEW)
        assert row["vector_from_archive"] is None


def test_the_next_checkout_is_decided_by_the_new_model_with_filled_features(changed: Changed):
    body = json.loads(re.search(r"-d '(.*)'", changed.running.curl)[1])
    door = changed.running.door
    headers = {"Idempotency-Key": "new-1", "Candor-Replay-At": "2017-09-01T00:00:00Z"}
    answer = httpx.post(f"{door.url}/v1/decisions", json=body, auth=(door.key, ""), headers=headers)

    assert answer.status_code == 200, answer.text
    records = {
        item["pk"]["S"]: json.loads(bytes(item["r"]["B"]))
        for item in Account(changed.running.state).items("decisions")
    }
    record = records[answer.json()["id"]]
    assert not record["degraded"]
    vector = dict(zip(changed.features, record["vector"]["values"], strict=True))
    assert vector["customer_repayments.paid.lifetime"] > 0
