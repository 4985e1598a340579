"""Stream as queues deliver it: transactions out of order, some twice, some up to a week late.

The arrival times are part of the exported input, so nothing about the comparison depends on this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from candor.clock import DAY, HOUR

ARRIVALS = "arrivals.parquet"
DISORDER = HOUR
LATEST = 7 * DAY
LATE_SHARE = 0.01
DUPLICATED_SHARE = 0.1

Columns = dict[str, np.ndarray[Any, np.dtype[np.int64]]]
"""int64 columns of equal length.

arrival and occurred_at (ms UTC), transaction, customer, terminal, amount (cents), fraud (0, 1).
"""


def read_transactions(path: Path, sample: int | None) -> Columns:
    """The handbook's table as integers: all of it, or of whole customers about `sample` rows."""
    table = pq.read_table(
        path, columns=["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]
    )
    columns = {
        "occurred_at": table["TX_DATETIME"].cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy(),
        "transaction": table["TRANSACTION_ID"].cast(pa.int64()).to_numpy(),
        "customer": table["CUSTOMER_ID"].cast(pa.int64()).to_numpy(),
        "terminal": table["TERMINAL_ID"].cast(pa.int64()).to_numpy(),
        "amount": np.rint(table["TX_AMOUNT"].to_numpy() * 100).astype(np.int64),
        "fraud": table["TX_FRAUD"].cast(pa.int64()).to_numpy(),
    }
    return columns if sample is None else _some_customers(columns, sample)


def _some_customers(columns: Columns, sample: int) -> Columns:
    customers, sizes = np.unique(columns["customer"], return_counts=True)
    enough = int(np.searchsorted(np.cumsum(sizes), sample)) + 1
    return rows(columns, np.isin(columns["customer"], customers[:enough]))


def delivered(transactions: Columns, seed: int) -> Columns:
    """Deliveries in order of arrival: every transaction once, and a second copy of a tenth of them."""
    random = np.random.default_rng(seed)
    count = len(transactions["transaction"])
    copies = np.flatnonzero(random.random(count) < DUPLICATED_SHARE)
    deliveries = rows(transactions, np.concatenate([np.arange(count), copies]))
    deliveries["arrival"] = deliveries["occurred_at"] + _delays(random, count + len(copies))
    return rows(deliveries, np.argsort(deliveries["arrival"], kind="stable"))


def _delays(random: np.random.Generator, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Delays (ms) under an hour, which shuffle the stream; one in a hundred up to a week."""
    late = random.random(count) < LATE_SHARE
    return np.where(late, random.integers(DISORDER, LATEST, count), random.integers(0, DISORDER, count))


def rows(columns: Columns, selection: Any) -> Columns:
    """Rows selected by mask or by positions."""
    return {name: column[selection] for name, column in columns.items()}


def write(deliveries: Columns, path: Path) -> None:
    """Write the stream as Parquet."""
    pq.write_table(pa.table(deliveries), path, compression="zstd")


def read(path: Path) -> Columns:
    """Inverse of `write`."""
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}
