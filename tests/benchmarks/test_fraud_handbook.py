"""Comparison with the handbook's data, on a small table of the same shape: equal, recomputable, able to fail."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.fraud_handbook import stream
from benchmarks.fraud_handbook.__main__ import compare, main
from candor.clock import DAY, HOUR

ROWS = 3_000


@pytest.fixture(scope="module")
def handbook(tmp_path_factory):
    """Sixty days of a few customers and terminals, some of them idle for weeks."""
    random = np.random.default_rng(3)
    seconds = np.sort(
        np.concatenate([random.integers(0, 8, ROWS // 2), random.integers(45, 60, ROWS // 2)]) * 86_400
    )
    seconds += random.integers(0, 86_400, ROWS)
    table = pa.table(
        {
            "TRANSACTION_ID": np.arange(ROWS),
            "TX_DATETIME": pa.array(1_522_540_800_000_000_000 + seconds * 10**9, pa.timestamp("ns")),
            "CUSTOMER_ID": random.integers(0, 12, ROWS),
            "TERMINAL_ID": random.integers(0, 40, ROWS),
            "TX_AMOUNT": np.round(random.exponential(60, ROWS), 2),
            "TX_FRAUD": (random.random(ROWS) < 0.1).astype(np.int64),
        }
    )
    path = tmp_path_factory.mktemp("handbook") / "transactions.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture(scope="module")
def exported(handbook, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    assert main(["--data", str(handbook), "--out", str(folder), "--processes", "1"]) == 0
    return folder


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


def test_online_equals_offline_for_every_active_entity_at_every_hour(exported):
    report = json.loads((exported / "summary.json").read_text())
    assert (report["transactions"], report["mismatches"]) == (ROWS, 0)
    assert report["reads"] == report["parts"][0]["reads"] > ROWS
    compared = pq.read_table(exported / "comparison.parquet")
    assert all(compared["equal"].to_pylist())
    counts = [row["count_30d"] for row in compared["online"].to_pylist()]
    assert max(counts) > 100
    assert 0 in counts, "an event that has not arrived yet must not be seen"


def test_all_that_is_exported_is_enough_to_compare_again(copy):
    (copy / "comparison.parquet").unlink()
    assert main(["--out", str(copy), "--verify"]) == 0
    assert (copy / "comparison.parquet").exists()


def test_one_value_that_differs_by_one_bit_is_found(copy):
    table = _online(copy)
    mean = table["mean_7d"].to_numpy().copy()
    place = int(np.flatnonzero(~np.isnan(mean))[100])
    mean[place] = np.nextafter(mean[place], np.inf)
    _rewrite(copy, table.set_column(table.column_names.index("mean_7d"), "mean_7d", pa.array(mean)))
    assert compare(copy)["mismatches"] == 1
    assert main(["--out", str(copy), "--verify"]) == 1


def test_a_read_that_is_missing_and_one_that_nobody_asked_for_are_found(copy):
    table = _online(copy)
    q = table["q"].to_numpy().copy()
    q[0] += 1
    _rewrite(copy, table.set_column(2, "q", pa.array(q)))
    assert compare(copy)["mismatches"] == 2


def test_the_stream_is_in_disorder_doubled_and_late_and_the_same_every_time(handbook):
    transactions = stream.read_transactions(handbook, None)
    first, other = (stream.delivered(transactions, seed=1) for _ in range(2))
    assert all(np.array_equal(first[name], other[name]) for name in first)
    delays = first["arrival"] - first["occurred_at"]
    assert (np.diff(first["arrival"]) >= 0).all()
    assert (np.diff(first["occurred_at"]) < 0).mean() > 0.2
    assert set(first["transaction"]) == set(transactions["transaction"])
    assert 1.08 < len(first["transaction"]) / ROWS < 1.12
    assert 0.005 < (delays >= HOUR).mean() < 0.02
    assert 0 <= delays.min() <= delays.max() < 7 * DAY


def test_a_sample_is_of_whole_customers(handbook):
    everything = stream.read_transactions(handbook, None)
    some = stream.read_transactions(handbook, 1_000)
    assert 1_000 <= len(some["customer"]) < ROWS
    for customer in np.unique(some["customer"]):
        assert (some["customer"] == customer).sum() == (everything["customer"] == customer).sum()


def _online(folder):
    return pq.read_table(folder / "online" / "0.parquet")


def _rewrite(folder, table):
    pq.write_table(table, folder / "online" / "0.parquet")
