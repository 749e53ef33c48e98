"""Importing texts in fastText's format."""

from __future__ import annotations

import bz2

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deeptune.data.sources.parquet import open_source
from deeptune.importing import Options, import_data

ONE_LABEL = "__label__2 Great CD: my lovely, lovely Pat\n\n__label__1 Not for me\n no label\n__label__1\n"


def imported(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    done = import_data(tmp_path / name, tmp_path / "out.parquet", Options())
    return pq.read_table(tmp_path / "out.parquet").to_pydict(), done


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_each_line_is_a_text_with_its_label(tmp_path, mark):
    rows, done = imported(tmp_path, "train.txt", (mark + ONE_LABEL).encode())
    assert rows == {
        "text": ["Great CD: my lovely, lovely Pat", "Not for me", "no label"],
        "labels": ["2", "1", None],
    }
    assert done.left_out == 1


def test_labels_are_lists_where_a_line_has_several(tmp_path):
    (tmp_path / "train.txt").write_text("__label__a  __label__b\tcold\n__label__a warm __label__b\nplain\n")
    import_data(tmp_path / "train.txt", tmp_path / "out.parquet", Options())
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["labels"].type == pa.list_(pa.string())
    assert table.to_pydict() == {"text": ["cold", "warm __label__b", "plain"], "labels": [["a", "b"], ["a"], []]}


def test_a_text_file_without_labels_is_a_table(tmp_path):
    rows, _ = imported(tmp_path, "table.txt", b"text\tlabels\nwarm\ta\ncold\tb\n")
    assert rows == {"text": ["warm", "cold"], "labels": ["a", "b"]}


def test_a_run_takes_a_compressed_file_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "test.ft.txt.bz2").write_bytes(bz2.compress(ONE_LABEL.encode()))
    assert open_source(str(tmp_path / "test.ft.txt.bz2")).column("labels").to_pylist() == ["2", "1", None]


def test_files_of_splits_are_one_table(tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / "data" / f"{split}.ft.txt").write_text(f"__label__a {split}\n")
    import_data(tmp_path / "data", tmp_path / "out.parquet", Options())
    assert pq.read_table(tmp_path / "out.parquet").to_pydict() == {
        "text": ["test", "train"], "labels": ["a", "a"], "split": ["test", "train"],
    }  # fmt: skip
