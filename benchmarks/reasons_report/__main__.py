"""`python -m benchmarks.reasons_report --data FOLDER [--json]`: reasons on two public data sets.

FOLDER holds taiwan/UCI_Credit_Card.csv and hmda/hmda_train_preprocessed.zip; a missing set is skipped with a message.
Each model is monotone where credit says so, and never sees sex, age, race, marriage or education.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.reasons_report.datasets import DATASETS, Dataset
from benchmarks.reasons_report.report import report


def show(dataset: Dataset, figures: Mapping[str, Any]) -> None:
    """Print the report of a data set."""
    console, stability = Console(), figures["stability"]
    console.print(
        f"{figures['dataset']}: {figures['rows']} rows; AUC {figures['auc']['monotone']:.4f} monotone, "
        f"{figures['auc']['free']:.4f} free; {figures['declined']} of {figures['applicants']} applicants declined"
    )
    table = Table("code", "text", "told to", "told first")
    for reason in dataset.reasons:
        shares = (figures[name].get(reason.code, 0.0) for name in ("frequency", "top_1"))
        table.add_row(reason.code, reason.text, *(f"{share:.1%}" for share in shares))
    console.print(table)
    console.print(
        f"{figures['reasons_per_decline']:.2f} reasons a decline, {figures['without_reason']} without; additivity "
        f"{figures['additivity']:.1e}\nacross retrains: Jaccard of who is declined {stability['declined']:.3f}, of what they are told "
        f"{stability['reasons']:.3f}; same first reason {stability['same_first']:.1%}, same set {stability['same_set']:.1%}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Report every data set that is present."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reasons_report", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--retrains", type=int, default=5)
    parser.add_argument("--applicants", type=int, default=4_000, help="of the test rows, for the reasons")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    there = [dataset for dataset in DATASETS if dataset.present(options.data)]
    for dataset in DATASETS:
        if dataset not in there:
            print(f"{dataset.name}: {options.data / dataset.file} is not there, passed over", file=sys.stderr)
    reports = [report(dataset, options.data, options.retrains, options.applicants) for dataset in there]
    if options.json:
        print(json.dumps(reports, indent=2))
    else:
        for dataset, figures in zip(there, reports, strict=True):
            show(dataset, figures)
    return 0 if there else 1


if __name__ == "__main__":
    sys.exit(main())
