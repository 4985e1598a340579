"""The report of `make run`, recomputed from its exported rows by independent code."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from candor.clock import parse_rfc3339
from candor.contracts import Application, parse_checkout
from candor.decision import decided, parse_record
from demo.sources.folder import from_folder
from history.archive.events import accepted_events, read_envelopes
from history.asof.point_in_time import PointInTimeQuery, point_in_time
from lender import DEFINITIONS
from tests.builders import bits
from tests.system.conftest import Served
from tests.system.small_lender import CHECKOUTS


@pytest.fixture(scope="module")
def figures(served: Served) -> dict[str, str]:
    """Every figure of the report by its name."""
    return dict(re.findall(r"\b(\w+)=(\S+)", served.running.stdout.partition("Decide one checkout")[0]))


@pytest.fixture(scope="module")
def rows(figures: dict[str, str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(figures["rows"]).read_text().splitlines()]


def test_the_last_line_says_where_it_serves(served: Served) -> None:
    last = served.running.stdout.splitlines()[-1]
    assert re.fullmatch(r"READY http://127\.0\.0\.1:\d+", last)
    assert httpx.get(served.running.url + "/").status_code == 404


def test_every_checkout_has_a_row_in_the_order_of_the_source(
    served: Served, rows: list[dict[str, Any]], figures: dict[str, str]
) -> None:
    checkouts = list(from_folder(served.data).checkouts())
    assert figures["decisions"] == str(CHECKOUTS)
    assert [(row["id"], row["label"], parse_rfc3339(row["q"])) for row in rows] == [
        (checkout.id, checkout.label, checkout.q_ms) for checkout in checkouts
    ]
    for row in rows:
        assert list(row["vector"]) == list(DEFINITIONS.features)
        assert served.contents.records[row["decision_id"]]["outcome"] == row["outcome"]
        assert 0 < row["score"] < 1


def test_the_rows_give_the_auc(rows: list[dict[str, Any]], figures: dict[str, str]) -> None:
    known = [row for row in rows if row["label"] is not None]
    labels = [row["label"] for row in known]
    each = [roc_auc_score(labels, [row["seed_scores"][str(seed)] for row in known]) for seed in range(1, 6)]
    assert figures["auc_decided"] == f"{np.mean(each):.4f}"
    # The decision's own score is the first seed's, calibrated: the order is the same.
    assert math.isclose(roc_auc_score(labels, [row["score"] for row in known]), each[0])


def test_the_two_aucs_are_named_by_what_they_are_measured_on(served: Served, figures: dict[str, str]) -> None:
    (file,) = served.running.state.glob("s3/*/bundles/*/evaluation.json")
    measured = json.loads(file.read_text())["discrimination"]
    assert figures["auc_validation"] == f"{measured['auc']:.4f}"
    decided, validation = (
        next(line for line in served.running.stdout.splitlines() if line.startswith(name))
        for name in ("auc_decided=", "auc_validation=")
    )
    assert "the models that serve" in decided
    assert f"on the latest {measured['n']} checkouts" in validation
    assert f"{measured['bads']} bad" in validation


def test_the_rows_give_the_approvals(rows: list[dict[str, Any]], figures: dict[str, str]) -> None:
    outcomes = Counter(row["outcome"] for row in rows)
    assert {name: figures[name] for name in outcomes} == {name: str(n) for name, n in outcomes.items()}
    assert figures["approval_rate"] == f"{outcomes['approved'] / len(rows):.3f}"
    assert figures["degraded"] == "0"


def test_rows_and_archive_give_the_parity(
    served: Served, rows: list[dict[str, Any]], figures: dict[str, str]
) -> None:
    questions = []
    for row, checkout in zip(rows, from_folder(served.data).checkouts(), strict=True):
        body = parse_checkout(json.dumps(checkout.body).encode())
        questions.append(
            PointInTimeQuery(row["id"], parse_rfc3339(row["q"]), Application(body, checkout.merchant))
        )
    (folder,) = served.running.state.glob("s3/*archive*/events")
    events = list(accepted_events(read_envelopes(folder), DEFINITIONS))
    records = [json.dumps(record).encode() for record in served.contents.records.values()]
    events += (decided(parse_record(record), DEFINITIONS) for record in records)
    equal = {}
    for leaky in (False, True):
        table = point_in_time(DEFINITIONS, events, questions, leaky=leaky)
        logged = [[math.nan if x is None else x for x in row["vector"].values()] for row in rows]
        equal[leaky] = sum(bits(row) == bits(table.vector(index)) for index, row in enumerate(logged))
    assert equal[False] == len(rows)
    assert figures["parity"] == "100"
    assert equal[True] < len(rows)
    assert math.isclose(float(figures["leaky_parity"]), 100 * equal[True] / len(rows), abs_tol=0.01)
