"""HMDA: high-priced mortgages of US applicants, compared by race, sex and age; groups are no features."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from training.evaluate.alternatives import AlternativeModel, ComparisonSet, alternatives
from training.evaluate.fairness import Outcomes, groups
from training.metrics.scores import auc, auc_interval

FILE = "hmda_train_preprocessed.zip"
LABEL = "high_priced"
GROUPS = {
    "race": ("black", "asian", "white", "amind", "hipac"),
    "ethnicity": ("hispanic", "non_hispanic"),
    "sex": ("male", "female"),
    "age": ("agegte62", "agelt62"),
}
REFERENCES = {"race": "white", "ethnicity": "non_hispanic", "sex": "male", "age": "agelt62"}
SHOWN = ("race", "ethnicity", "sex")
FEATURES = (
    "term_360",
    "conforming",
    "debt_to_income_ratio_missing",
    "loan_amount_std",
    "loan_to_value_ratio_std",
    "no_intro_rate_period_std",
    "intro_rate_period_std",
    "property_value_std",
    "income_std",
    "debt_to_income_ratio_std",
)
DIRECTIONS = {"loan_to_value_ratio_std": 1, "debt_to_income_ratio_std": 1, "income_std": -1}
APPROVED = 0.9
"""About nine in ten loans are not high priced: the favourable outcome."""
PARAMETERS = {
    "objective": "binary",
    "num_leaves": 31,
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "seed": 1,
    "num_threads": 1,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}
ROUNDS = 200

Columns = dict[str, NDArray[np.float64]]


def read(folder: Path) -> Columns:
    """Columns of the labelled file, missing as NaN. The other file of the pair has no label and is not used."""
    with zipfile.ZipFile(folder / FILE) as packed, packed.open(packed.namelist()[0]) as raw:
        rows = list(csv.reader(io.TextIOWrapper(raw, encoding="utf-8")))
    table = [[float(cell) if cell else np.nan for cell in row] for row in rows[1:]]
    return dict(zip(rows[0], np.array(table).T, strict=True))


def held_out(columns: Columns) -> NDArray[np.bool_]:
    """Mask of every fifth row: the file has no order in time."""
    return np.asarray(columns["row_id"] % 5 == 0)


def group_columns(columns: Columns) -> dict[str, NDArray[np.object_]]:
    """Group flags as one column per kind: the group's name, or None where the applicant gave none."""
    columns_by_kind = {}
    for kind, names in GROUPS.items():
        names_of_rows = np.full(len(columns[LABEL]), None, dtype=object)
        for name in names:
            names_of_rows[columns[name] == 1.0] = name
        columns_by_kind[kind] = names_of_rows
    return columns_by_kind


def measure(folder: Path) -> dict[str, Any]:
    """AUC on held-out rows, every group against its reference, and the alternatives."""
    columns = read(folder)
    test = held_out(columns)
    bad = columns[LABEL][test].astype(np.int8)
    kinds = {name: column[test] for name, column in group_columns(columns).items()}

    def fitted(candidate: AlternativeModel) -> NDArray[np.float64]:
        return fit(columns, test, candidate)

    pd = fitted(AlternativeModel("as it is"))
    outcomes = Outcomes(bad, pd, float(np.quantile(pd, APPROVED)))
    shown = {name: kinds[name] for name in SHOWN}
    tried = alternatives(fitted, ComparisonSet(bad, shown, APPROVED, REFERENCES), FEATURES, DIRECTIONS)
    interval = auc_interval(bad, pd, rounds=300)
    return {
        "rows": len(test),
        "tested": len(bad),
        "auc": auc(bad, pd),
        "auc_low": interval.low,
        "auc_high": interval.high,
        "groups": groups(outcomes, kinds, REFERENCES),
        "alternatives": tried,
    }


def fit(columns: Columns, test: NDArray[np.bool_], candidate: AlternativeModel) -> NDArray[np.float64]:
    """PDs of the held-out rows by a candidate fitted on the others."""
    names = [name for name in FEATURES if name not in candidate.without]
    values = np.column_stack([columns[name] for name in names])
    directions = candidate.directions or {}
    parameters = {**PARAMETERS, **(candidate.parameters or {})}
    if directions:
        parameters["monotone_constraints"] = [directions.get(name, 0) for name in names]
    data = lightgbm.Dataset(values[~test], columns[LABEL][~test])
    model = lightgbm.train(parameters, data, ROUNDS)
    return np.asarray(model.predict(values[test], num_threads=1))


def lines(figures: dict[str, Any]) -> list[str]:
    """Figures as lines of text."""
    text = [f"hmda: {figures['rows']:,} loans, {figures['tested']:,} held out"]
    text.append(f"auc={figures['auc']:.4f} (95 %: {figures['auc_low']:.4f} to {figures['auc_high']:.4f})")
    text += [
        f"{group['by']} {group['group']} against {group['reference']}: n={group['n']} air={group['air']:.3f} "
        f"me={group['marginal_effect']:+.3f} smd={group['smd']:+.3f} fpr={group['fpr_ratio']:.2f} fnr={group['fnr_ratio']:.2f} "
        f"fisher_p={group['fisher_p']:.1e} t_p={group['t_p']:.1e}{' FLAGGED' if group['flagged'] else ''}"
        for group in figures["groups"]
    ]
    base, *others = figures["alternatives"]
    text.append(f"as it is: auc={base['auc']:.4f} lowest air={base['air']:.3f} ({base['group']})")
    better = sorted(
        (candidate for candidate in others if candidate["alternative"]),
        key=lambda candidate: -candidate["air"],
    )
    text.append(
        f"alternatives within 0.005 AUC and with a better ratio: {len(better)} of {len(others)} tried"
    )
    text += [
        f"  {candidate['name']}: auc={candidate['auc']:.4f} ({candidate['auc'] - base['auc']:+.4f}) air={candidate['air']:.3f}"
        for candidate in better[:5]
    ]
    return text
