"""HMDA: which mortgages of US applicants are high priced, and how that differs by race, sex and age; groups only compared."""

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
    """Every fifth row: the file is in no order of time."""
    return np.asarray(columns["row_id"] % 5 == 0)


def group_columns(columns: Columns) -> dict[str, NDArray[np.object_]]:
    """The flags as one column a kind: the group's name, or None where the applicant did not say."""
    found = {}
    for kind, names in GROUPS.items():
        told = np.full(len(columns[LABEL]), None, dtype=object)
        for name in names:
            told[columns[name] == 1.0] = name
        found[kind] = told
    return found


def measure(folder: Path) -> dict[str, Any]:
    """AUC on held-out rows, every group against its reference, and the alternatives."""
    columns = read(folder)
    test = held_out(columns)
    bad = columns[LABEL][test].astype(np.int8)
    told = {name: column[test] for name, column in group_columns(columns).items()}

    def fitted(candidate: AlternativeModel) -> NDArray[np.float64]:
        return fit(columns, test, candidate)

    pd = fitted(AlternativeModel("as it is"))
    outcomes = Outcomes(bad, pd, float(np.quantile(pd, APPROVED)))
    shown = {name: told[name] for name in SHOWN}
    found = alternatives(fitted, ComparisonSet(bad, shown, APPROVED, REFERENCES), FEATURES, DIRECTIONS)
    interval = auc_interval(bad, pd, rounds=300)
    return {
        "rows": len(test),
        "tested": len(bad),
        "auc": auc(bad, pd),
        "auc_low": interval.low,
        "auc_high": interval.high,
        "groups": groups(outcomes, told, REFERENCES),
        "alternatives": found,
    }


def fit(columns: Columns, test: NDArray[np.bool_], candidate: AlternativeModel) -> NDArray[np.float64]:
    """PDs of the held-out rows by a candidate that was fitted on the others."""
    names = [name for name in FEATURES if name not in candidate.without]
    values = np.column_stack([columns[name] for name in names])
    directions = candidate.directions or {}
    parameters = {**PARAMETERS, **(candidate.parameters or {})}
    if directions:
        parameters["monotone_constraints"] = [directions.get(name, 0) for name in names]
    data = lightgbm.Dataset(values[~test], columns[LABEL][~test])
    model = lightgbm.train(parameters, data, ROUNDS)
    return np.asarray(model.predict(values[test], num_threads=1))


def lines(found: dict[str, Any]) -> list[str]:
    """The figures as text."""
    told = [f"hmda: {found['rows']:,} loans, {found['tested']:,} held out"]
    told.append(f"auc={found['auc']:.4f} (95 %: {found['auc_low']:.4f} to {found['auc_high']:.4f})")
    told += [
        f"{one['by']} {one['group']} against {one['reference']}: n={one['n']} air={one['air']:.3f} "
        f"me={one['marginal_effect']:+.3f} smd={one['smd']:+.3f} fpr={one['fpr_ratio']:.2f} fnr={one['fnr_ratio']:.2f} "
        f"fisher_p={one['fisher_p']:.1e} t_p={one['t_p']:.1e}{' FLAGGED' if one['flagged'] else ''}"
        for one in found["groups"]
    ]
    base, *others = found["alternatives"]
    told.append(f"as it is: auc={base['auc']:.4f} lowest air={base['air']:.3f} ({base['group']})")
    better = sorted((one for one in others if one["alternative"]), key=lambda one: -one["air"])
    told.append(
        f"alternatives within 0.005 AUC and with a better ratio: {len(better)} of {len(others)} tried"
    )
    told += [
        f"  {one['name']}: auc={one['auc']:.4f} ({one['auc'] - base['auc']:+.4f}) air={one['air']:.3f}"
        for one in better[:5]
    ]
    return told
