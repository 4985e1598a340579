"""`python -m training.evaluate --run <name>`: a trained bundle → evaluation.json, report.html, model_card.json.

Runs under SageMaker Processing's contract below `PROCESSING_ROOT` (default `/opt/ml/processing`): reads
`input/dataset`, `input/model/model.tar.gz` and, where there is a champion, `input/champion/{pointer,bundle}.json`;
writes `output/evaluation`. `input/archive` (to recompute rows) and `input/groups` (for fair lending) are optional.

Measures on the latest part use models that have not seen it: those fitted on the earlier part.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from candor.clock import parse_rfc3339
from candor.errors import BundleRefused, CandorError
from candor.features.definitions import Definitions
from candor.model.bundle import Bundle
from candor.reasons import Catalogue
from candor.regulation import ModelCard
from history.archive.events import ArchiveDamaged, accepted_events, read_envelopes
from training.dataset.read import TrainingSet, read_training_set
from training.dataset.split import CannotLearn, Floats, Split, split_at
from training.evaluate.alternatives import ComparisonSet, by_factor
from training.evaluate.engine_checks import latency, parity
from training.evaluate.fairness import Outcomes, groups
from training.evaluate.importance import importance
from training.evaluate.job_output import ARCHIVE, JobOutput
from training.evaluate.leakage import EventHistory, leakage
from training.evaluate.model_card import model_card
from training.evaluate.profit import profit, swap_set, vintages
from training.evaluate.reason_codes import reasons
from training.evaluate.reject_inference import reject_inference
from training.evaluate.stability import stability
from training.fit.calibrate import calibrate
from training.fit.recipe import Recipe, raw_scores
from training.metrics.calibration import calibration, line, probabilities
from training.metrics.discrimination import comparison, discrimination, enough, gains
from training.metrics.scores import auc
from training.report.page import page

FORMAT: Final = 1
DECLINED: Final = "declined.parquet"
GROUPS: Final = "groups.parquet"


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of one bundle on one data set.

    `champion` is the bundle that serves, `declined` the features of declined applicants, whose outcome is unknown.
    """

    data: TrainingSet
    output: JobOutput
    definitions: Definitions
    champion: Bundle | None = None
    archive: EventHistory | None = None
    declined: Mapping[str, Floats] | None = None
    groups: Mapping[str, NDArray[np.object_]] | None = None

    @property
    def bundle(self) -> Bundle:
        return self.output.bundle

    @cached_property
    def split(self) -> Split:
        """Split of the data set at the training job's own moment."""
        return split_at(self.data.q, self.data.known_at, int(self.bundle.metrics["period_from"]))

    @cached_property
    def late(self) -> NDArray[np.int64]:
        """Row numbers of the latest part, by time."""
        rows = self.split.late
        return rows[np.argsort(self.data.q[rows], kind="stable")]

    @cached_property
    def raw(self) -> dict[str, Floats]:
        """Raw scores on the latest part by each seed's model of the earlier part; the serving seed comes first."""
        values = self.data.values[self.late]
        return {str(seed): raw_scores(text, values) for seed, text in self.output.validation.items()}

    @property
    def served(self) -> Floats:
        return next(iter(self.raw.values()))

    @cached_property
    def pd(self) -> Floats:
        """PDs of the latest part, with the bundle's calibration."""
        return probabilities(self.bundle.calibration, self.served)

    @property
    def bad(self) -> NDArray[np.int8]:
        return self.data.bad[self.late]

    @cached_property
    def unseen(self) -> NDArray[np.bool_] | None:
        """Late rows whose label the champion cannot have been trained on; None where no fair comparison is possible."""
        champion = self.champion
        trained_at = champion and champion.lineage.get("as_of")
        if champion is None or not trained_at or not set(champion.features) <= set(self.definitions.features):
            return None
        new = self.data.known_at[self.late] >= parse_rfc3339(str(trained_at))
        return new if enough(self.bad[new]) else None

    def to_json(self, run: str) -> dict[str, Any]:
        """Content of evaluation.json, format 1."""
        bundle, data, features = self.bundle, self.data, self.definitions.features
        late, early = data.values[self.late], data.values[self.split.early]
        scores = raw_scores(bundle.model, data.values)
        income, loss = self._economics()
        return {
            "format": FORMAT,
            "bundle": bundle.sha,
            "champion": self.champion.sha if self.champion else None,
            "run": run,
            "discrimination": discrimination(data, self.late, self.raw, self.pd, features),
            **self._against_champion(),
            "calibration": self._calibration(),
            "gains": gains(self.bad, self.pd),
            "importance": importance(bundle, late, features),
            "stability": stability(early, late, scores[self.split.early], scores[self.late], features),
            "profit": profit(self.bad, self.pd, bundle.cutoff, income, loss),
            "vintages": vintages(data),
            "reasons": reasons(self.output.validation, late, self.pd, bundle),
            "reject_inference": self._reject_inference(),
            "fairness": self._fairness(),
            "leakage": leakage(data, self.split, auc(self.bad, self.served), features, self.archive),
            "latency": latency(bundle.model, late),
            "parity": parity(bundle.model, late),
        }

    def _economics(self) -> tuple[float, float]:
        """Income and loss per unit lent that the cut-off was chosen with."""
        loss, cutoff = float(self.bundle.lineage["economics"]["loss_given_bad"]), self.bundle.cutoff
        return cutoff * loss / (1.0 - cutoff), loss

    def _against_champion(self) -> dict[str, Any]:
        """Comparison and swap set on rows that neither model has seen; None where there are none."""
        new, champion = self.unseen, self.champion
        if champion is None or new is None:
            return {"comparison": None, "swap_set": None}
        columns = [self.definitions.features.index(name) for name in champion.features]
        raw = raw_scores(champion.model, self.data.values[self.late[new]][:, columns])
        approves = probabilities(champion.calibration, raw) <= champion.cutoff
        return {
            "comparison": comparison(self.bad[new], self.served[new], raw),
            "swap_set": swap_set(self.bad[new], self.pd[new] <= self.bundle.cutoff, approves),
        }

    def _calibration(self) -> dict[str, Any]:
        """Calibration out of time (scaled on the first half of the latest part, measured on the second) and in time."""
        bad, half = self.bad, len(self.late) // 2
        if enough(bad[:half]) and enough(bad[half:]):
            scaled = probabilities(calibrate(self.served[:half], bad[:half]), self.served[half:])
            figures = calibration(bad[half:], scaled)
        else:
            figures = calibration(bad, self.pd)
        return {**figures, "in_time": self._in_time()}

    def _in_time(self) -> dict[str, float]:
        """The bundle's calibration on the earlier part, by two-fold cross-fitting."""
        rows, recipe = (
            self.split.early,
            Recipe.of(self.definitions.features, self.bundle.lineage["parameters"]),
        )
        raw = np.zeros(len(rows))
        for fold in (0, 1):
            held = np.arange(len(rows)) % 2 == fold
            fitted, scored = rows[~held], rows[held]
            model = recipe.fit(self.data, fitted, int(self.bundle.lineage["seeds"][0]))
            raw[held] = raw_scores(model, self.data.values[scored])
        return line(self.data.bad[rows], probabilities(self.bundle.calibration, raw))

    def _reject_inference(self) -> dict[str, Any] | None:
        if self.declined is None:
            return None
        values = np.column_stack([self.declined[name] for name in self.definitions.features])
        raw = raw_scores(next(iter(self.output.validation.values())), values)
        declined = probabilities(self.bundle.calibration, raw)
        logged = self.data.others.get("propensity")
        propensity = None if logged is None else np.asarray(logged.to_numpy(), dtype=float)[self.late]
        return reject_inference(self.bad, self.pd, declined, self.bundle.cutoff, propensity)

    def _fairness(self) -> dict[str, Any] | None:
        if self.groups is None:
            return None
        columns = {name: column[self.split.late] for name, column in self.groups.items()}
        rows, bundle = self.split.late, self.bundle
        outcomes = Outcomes(self.data.bad[rows], self._in_rows(self.pd), bundle.cutoff)
        measures = groups(outcomes, columns)
        recipe = Recipe.of(self.definitions.features, bundle.lineage["parameters"])
        compared = ComparisonSet(outcomes.bad, columns, float(outcomes.approved.mean()))
        catalogue, seed = Catalogue(bundle.reasons, bundle.features), int(bundle.lineage["seeds"][0])
        others = by_factor(self.data, self.split, recipe, seed, catalogue, compared) if measures else []
        return {"groups": measures, "alternatives": others}

    def _in_rows(self, by_time: Floats) -> Floats:
        """Reorder figures of the latest part from time order to the order of the split's rows."""
        by_row = np.empty(len(by_time))
        by_row[np.argsort(self.data.q[self.split.late], kind="stable")] = by_time
        return by_row


def read(root: Path, definitions: Definitions) -> Evaluation:
    """Read the job's inputs below `root`. Raises CannotLearn, BundleRefused, ArchiveDamaged, OSError."""
    data = read_training_set(root / "dataset", definitions)
    output = JobOutput.read((root / "model" / ARCHIVE).read_bytes())
    output.bundle.require(definitions)
    if output.bundle.lineage["dataset_sha256"] != data.manifest["sha256"]:
        raise BundleRefused(
            "the bundle was trained on another data set than the one given: run both steps again"
        )
    return Evaluation(
        data,
        output,
        definitions,
        champion=_champion(root / "champion"),
        archive=_archive(root / "archive", definitions, data.as_of),
        declined=_declined(root / "dataset" / DECLINED),
        groups=_groups(root / "groups" / GROUPS, data),
    )


def _champion(folder: Path) -> Bundle | None:
    pointer = folder / "pointer.json"
    named = json.loads(pointer.read_text()).get("bundle") if pointer.is_file() else None
    return Bundle.from_bytes((folder / "bundle.json").read_bytes(), named) if named else None


def _archive(folder: Path, definitions: Definitions, as_of: int) -> EventHistory | None:
    if not folder.is_dir():
        return None
    return EventHistory.before(as_of, definitions, accepted_events(read_envelopes(folder), definitions))


def _declined(path: Path) -> dict[str, Floats] | None:
    if not path.is_file():
        return None
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names} if table.num_rows else None


def _groups(path: Path, data: TrainingSet) -> dict[str, NDArray[np.object_]] | None:
    """Group columns in the order of the data set's rows; None for a row that is not in the file."""
    if not path.is_file():
        return None
    table = pq.read_table(path)
    row_of = {row_id: number for number, row_id in enumerate(table["row_id"].to_pylist())}
    columns = {}
    for name in table.column_names:
        if name != "row_id":
            column = table[name].to_pylist()
            values = [column[row_of[row]] if row in row_of else None for row in data.row_ids]
            columns[name] = np.array(values, dtype=object)
    return columns


def write(evaluation: Evaluation, card: ModelCard, run: str, out: Path) -> dict[str, Any]:
    """Write evaluation.json, model_card.json and report.html into `out`; returns the content of evaluation.json."""
    content = evaluation.to_json(run)
    card_json = model_card(card, evaluation.bundle, evaluation.data.manifest, content)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(_json(content))
    (out / "model_card.json").write_text(_json(card_json))
    texts = {reason.code: reason.text for reason in evaluation.bundle.reasons}
    (out / "report.html").write_text(page(content, card_json, texts), encoding="utf-8")
    return content


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the container; returns 1, with one line on standard error, when nothing can be measured."""
    from lender import DEFINITIONS, MODEL_CARD

    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--run", default="manual", help="name of the run, for the report")
    options = parser.parse_args(arguments)
    root = Path(os.environ.get("PROCESSING_ROOT", "/opt/ml/processing"))
    try:
        evaluation = read(root / "input", DEFINITIONS)
        content = write(evaluation, MODEL_CARD, options.run, root / "output/evaluation")
    except (CannotLearn, CandorError, ArchiveDamaged, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    figures = content["discrimination"]
    print(
        f"assess: bundle {content['bundle'][:12]} validation auc={figures['auc']:.4f} ({figures['auc_low']:.3f} to "
        f"{figures['auc_high']:.3f}; serving seed, a model of the earlier part, on the latest {figures['n']} checkouts); "
        f"leakage suspected: {content['leakage']['suspected']}"
    )
    return 0
