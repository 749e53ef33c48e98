"""Outputs that are written as they come: the same file as if all had been there at once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptune.data.sources.parquet import ParquetSource, open_source
from deeptune.data.sources.source import Source
from deeptune.engine import table_files, writers
from deeptune.engine.inference import Outputs
from deeptune.engine.row_order import windows
from deeptune.errors import CheckpointError, DataError
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.regression import RegressionTask

WIDTH = 3
N = 60


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two files with columns of many kinds."""
    folder = tmp_path_factory.mktemp("source")
    table = pa.table(
        {
            "text": [f"text {row}" for row in range(N)],
            "labels": [["a", "b"][row % 2] for row in range(N)],
            "row": range(100, 100 + N),
            "site": pa.array([None if row % 5 == 0 else f"site {row // 9}" for row in range(N)]).dictionary_encode(),
            "views": pa.array([[row] * (row % 3) for row in range(N)], pa.list_(pa.int16())),
            "meta": [{"by": str(row), "at": None} for row in range(N)],
            "raw": pa.array([os.urandom(row) for row in range(N)], pa.binary_view()),
        }
    )
    pq.write_table(table.slice(0, 37), folder / "a.parquet", row_group_size=11)
    pq.write_table(table.slice(37), folder / "b.parquet")
    return open_source(str(folder))


def model(outputs=2):
    return SimpleNamespace(last_layer=SimpleNamespace(in_features=WIDTH, out_features=outputs))


def outputs_of(rows: np.ndarray, outputs=2) -> Outputs:
    """Numbers that belong to their rows."""
    logits = np.sin(rows[:, None] * np.arange(1, outputs + 1)).astype(np.float32)
    return Outputs(rows, logits, (rows[:, None] * 10 + np.arange(WIDTH)).astype(np.float32))


def batches_of(rows: np.ndarray, size: int, cuts: int, seed: int, outputs=2):
    """Batches in which the k-th `size` rows come in a random order before the next."""
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(rows[at : at + size]) for at in range(0, len(rows), size)] or [rows])
    ends = np.sort(random.integers(0, len(order) + 1, cuts))
    return [outputs_of(some, outputs) for some in np.split(order, ends)]


def whole_embeddings(source: Source, rows: np.ndarray, good: np.ndarray, errors: dict) -> pa.Table:
    """The same file from all rows at once."""
    seen = np.isin(rows, good)
    found = outputs_of(rows).embeddings
    table = pa.table(
        {
            "row": rows,
            "label": source.take("labels", rows),
            "embedding": pa.array(
                [found[at].tolist() if seen[at] else None for at in range(len(rows))], pa.list_(pa.float32(), WIDTH)
            ),
            "text": source.take("text", rows),
            "row_in_source": source.take("row", rows),
            "site": source.take("site", rows),
            "meta": source.take("meta", rows),
            "raw": source.take("raw", rows),
        }
    )
    if not errors:
        return table
    return table.append_column("error", pa.array([errors.get(row) for row in rows.tolist()], pa.string()))


some_rows = st.sets(st.integers(0, N - 1)).map(lambda chosen: np.array(sorted(chosen), np.int64))


@settings(max_examples=60, deadline=None)
@given(
    rows=some_rows,
    left_out=st.sets(st.integers(0, N - 1)),
    size=st.integers(1, N + 3),
    cuts=st.integers(0, 9),
    seed=st.integers(0, 99),
    small=st.sampled_from([100, 600, 2**20]),  # pieces of one row, of a few, or what is in memory as a whole
)
def test_a_file_written_in_windows_is_the_one_written_at_once(
    source, tmp_path_factory, rows, left_out, size, cuts, seed, small
):
    path = tmp_path_factory.mktemp("out") / "out.parquet"
    errors = {row: f"reason {row}" for row in sorted(left_out & set(rows.tolist()))}
    good = np.setdiff1d(rows, list(errors)).astype(np.int64)
    labels = ClassificationTask(("a", "b"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deeptune.data.sources.source.SMALL", small)
        patch.setattr(writers, "SMALL", small)
        again = ParquetSource(source.files)  # has no column in memory yet
        with writers.embedding_file(path, again, writers.Roles("views", "labels"), errors=errors) as write:
            for window in windows(batches_of(good, size, cuts, seed), rows, model(), embed=True, size=size):
                assert len(window.rows) <= size
                write(window)
    found = pq.read_table(path)
    expected = whole_embeddings(source, rows, good, errors)
    assert found.column_names == expected.column_names
    for name in found.column_names:
        assert found[name].to_pylist() == expected[name].to_pylist(), name
    if len(rows):
        assert pq.ParquetFile(path).metadata.num_row_groups >= -(-len(good) // size)

    truth = np.where(rows % 7 == 0, -1, rows % 2)
    with writers.prediction_file(path, writers.PredictionColumns(labels), truth=truth, errors=errors) as write:
        for window in windows(batches_of(good, size, cuts, seed), rows, model(), size=size):
            write(window)
    chances = np.exp(outputs_of(rows).logits.astype(np.float64))
    chances /= chances.sum(axis=1, keepdims=True)
    for at, row in enumerate(pq.read_table(path).to_pylist()):
        assert row["row"] == rows[at]
        assert row["truth"] == (None if truth[at] < 0 else "ab"[truth[at]])
        if rows[at] in errors:
            assert row["prediction"] is row["probabilities"] is row["confidence"] is None
            assert row["error"] == errors[rows[at]]
        else:
            assert row["prediction"] == "ab"[chances[at].argmax()]
            assert row["probabilities"] == pytest.approx(chances[at])
            assert row["confidence"] == pytest.approx(chances[at].max())
            assert row.get("error") is None


def test_numbers_are_restored_and_absent_ones_are_null(tmp_path):
    rows, good = np.arange(10), np.array([1, 2, 5, 8])
    truth = np.where(rows == 5, np.nan, rows / 2)
    with writers.prediction_file(
        tmp_path / "out.parquet", writers.PredictionColumns(RegressionTask(10.0, 2.0)), truth=truth
    ) as write:
        for window in windows(batches_of(good, 3, 2, 0, outputs=1), rows, model(1), size=3):
            write(window)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["truth"].to_pylist() == [None if row == 5 else row / 2 for row in range(10)]
    expected = [10 + 2 * float(np.float32(np.sin(row))) if row in good else None for row in range(10)]
    assert found["prediction"].to_pylist() == pytest.approx(expected)


def test_large_values_are_in_memory_a_few_rows_at_a_time(tmp_path, monkeypatch):
    pq.write_table(pa.table({"it": ["x" * 1000] * 50}), tmp_path / "a.parquet", use_dictionary=False)
    monkeypatch.setattr("deeptune.data.sources.source.SMALL", 5000)
    monkeypatch.setattr(writers, "SMALL", 5000)
    source, rows = open_source(str(tmp_path / "a.parquet")), np.arange(1, 50)
    pieces = list(writers.InStep(source, ["it"]).pieces(rows))
    assert np.concatenate([some for some, _ in pieces]).tolist() == rows.tolist()
    assert all(len(some) == len(found) for some, found in pieces)
    assert max(found.nbytes for _, found in pieces) < 2 * 5000


def write_all(path, source, *, before_each=lambda window: None, **options):
    """Embeddings of all rows, in windows of nine."""
    rows = np.arange(source.num_rows)
    with writers.embedding_file(path, source, writers.Roles(""), **options) as write:
        for window in windows([outputs_of(rows)], rows, model(), embed=True, size=9):
            before_each(window)
            write(window)


def test_a_file_that_fails_midway_is_not_there_and_the_former_one_is(source, tmp_path):
    path = tmp_path / "out.parquet"
    path.write_bytes(b"former")

    def fail(window):
        if window.start > 20:
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_all(path, source, before_each=fail)
    assert path.read_bytes() == b"former"
    assert os.listdir(tmp_path) == ["out.parquet"]


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from types import SimpleNamespace
from deeptune.data.sources.parquet import ParquetSource, open_source
from deeptune.engine import table_files, writers
from deeptune.engine.inference import Outputs
from deeptune.engine.row_order import windows

rows = np.arange(60)
model = SimpleNamespace(last_layer=SimpleNamespace(in_features=3, out_features=1))
found = [Outputs(rows, np.zeros((60, 1), np.float32), np.zeros((60, 3), np.float32))]
source = open_source(sys.argv[1])
with writers.embedding_file(Path(sys.argv[2]), source, writers.Roles("")) as write:
    for window in windows(found, rows, model, embed=True, size=9):
        write(window)
        if window.start > 20:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_midway_leaves_no_file_under_the_final_name(source, tmp_path, environment):
    folder = source.files[0].parent
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "out.parquet")], env=environment, check=False
    )
    assert process.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".out.parquet.")
    assert left.endswith(".tmp")
    assert (tmp_path / left).stat().st_size > 0


def test_a_full_disk_is_waited_for_and_costs_nothing_that_was_written(source, tmp_path, monkeypatch):
    path, tries, waited = tmp_path / "out.parquet", [], []

    class Full:
        """A disk that takes a few bytes at a time, and none at every other try."""

        def __init__(self, file):
            self.file = file

        def write(self, content):
            tries.append(len(content))
            if len(tries) % 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(content[:1000])

        def __getattr__(self, name):
            return getattr(self.file, name)

    def keep(write):
        while True:
            try:
                return write()
            except CheckpointError as error:
                waited.append(error.message)

    start = table_files._PatientFile.__init__

    def full(self, *arguments):
        start(self, *arguments)
        self._file = Full(self._file)

    monkeypatch.setattr(table_files._PatientFile, "__init__", full)
    write_all(path, source, keep=keep)
    assert len(waited) > 5
    assert set(waited) == {f"cannot write {path}: No space left on device"}
    assert pq.read_table(path)["row"].to_pylist() == list(range(N))

    with pytest.raises(CheckpointError, match="No space left on device"):
        write_all(path, source)
    assert os.listdir(tmp_path) == ["out.parquet"]


def test_a_source_that_changes_while_its_columns_are_read_gives_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("deeptune.data.sources.source.SMALL", 0)
    file = tmp_path / "source" / "a.parquet"
    file.parent.mkdir()
    pq.write_table(pa.table({"n": range(9)}), file)
    source = open_source(str(file), key="--data")

    def change(window):
        pq.write_table(pa.table({"n": range(1, 10)}), file)

    with pytest.raises(DataError, match="has changed since it was opened"):
        write_all(tmp_path / "out.parquet", source, before_each=change)
    assert not (tmp_path / "out.parquet").exists()
