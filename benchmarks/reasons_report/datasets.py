"""Two public data sets: features without protected groups, monotone constraints where credit implies them, factors."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from candor import Reason

HMDA = "hmda/hmda_train_preprocessed.zip"
TAIWAN = "taiwan/UCI_Credit_Card.csv"


@dataclass(frozen=True)
class Dataset:
    """`monotone` is +1 where more of a feature may only raise the risk, −1 where it may only lower it."""

    name: str
    file: str
    label: str
    features: Sequence[str]
    monotone: Mapping[str, int]
    reasons: Sequence[Reason]
    declined: float
    """Share of the training rows above the cut-off."""
    counts_adverse: Collection[str] = ()
    """Features that count something adverse: at 0 or below there is none of it."""

    def present(self, folder: Path) -> bool:
        return (folder / self.file).is_file()

    def rows(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """(values, labels) in the order of the file; an empty field is NaN."""
        values, labels = list[list[float]](), list[float]()
        for row in _records(folder / self.file):
            values.append([float(row[name] or "nan") for name in self.features])
            labels.append(float(row[self.label]))
        return np.array(values), np.array(labels)

    def constraints(self) -> list[int]:
        return [self.monotone.get(name, 0) for name in self.features]

    def adverse(self) -> tuple[bool, ...]:
        return tuple(name in self.counts_adverse for name in self.features)


def _records(path: Path) -> Iterator[dict[str, str]]:
    if path.suffix != ".zip":
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
        return
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        yield from csv.DictReader(io.TextIOWrapper(raw, "utf-8"))


def _signed(sign: int, names: Iterable[str]) -> dict[str, int]:
    return dict.fromkeys(names, sign)


_STATUS = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")
_BILLS = tuple(f"BILL_AMT{month}" for month in range(1, 7))
_PAID = tuple(f"PAY_AMT{month}" for month in range(1, 7))

taiwan = Dataset(
    name="taiwan",
    file=TAIWAN,
    label="Default",
    features=("LIMIT_BAL", *_STATUS, *_BILLS, *_PAID),
    monotone=_signed(1, _STATUS) | _signed(-1, ("LIMIT_BAL", *_PAID)),
    reasons=(
        Reason("T1", "Recent payments made after their due date", "recent_lateness", ("PAY_0", "PAY_2")),
        Reason("T2", "Earlier payments made after their due date", "earlier_lateness", _STATUS[2:]),
        Reason("T3", "Amount owed on the card", "amount_owed", _BILLS),
        Reason("T4", "Amount of recent payments", "payments", _PAID),
        Reason("T5", "Amount of credit granted so far", "limit", ("LIMIT_BAL",)),
    ),
    declined=0.2,
    counts_adverse=_STATUS,  # months late; 0 and below: paid as agreed
)

# The file is standardised. `high_priced` is a price well above the prime rate, not a default: more income or property does not
# only lower it, and constraints on both cost .007 of AUC more.
hmda = Dataset(
    name="hmda",
    file=HMDA,
    label="high_priced",
    features=(
        "term_360", "conforming", "debt_to_income_ratio_missing", "loan_amount_std", "loan_to_value_ratio_std",
        "no_intro_rate_period_std", "intro_rate_period_std", "property_value_std", "income_std",
        "debt_to_income_ratio_std",
    ),
    monotone={"loan_to_value_ratio_std": 1, "debt_to_income_ratio_std": 1},
    reasons=(
        Reason("M1", "Amount of debt compared with income", "debt", ("debt_to_income_*",)),
        Reason("M2", "Amount of the loan compared with the property's value", "loan_to_value", ("loan_to_value_*",)),
        Reason("M3", "Income", "income", ("income_std",)),
        Reason("M4", "Value of the property", "property_value", ("property_value_std",)),
        Reason("M5", "Amount of the loan", "loan_amount", ("loan_amount_std", "conforming")),
        Reason("M6", "Length of the loan", "term", ("term_360",)),
        Reason("M7", "Introductory rate of the loan", "intro_rate", ("*intro_rate_period_std",)),
    ),
    declined=0.1,
)  # fmt: skip

DATASETS = (taiwan, hmda)
