"""Files that change after a source opened them are not read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from parquet_files import write

from deeptune.data.sources.parquet import ParquetSource, open_source
from deeptune.data.sources.source import Source
from deeptune.errors import DataError


def after_opening(tmp_path, change, key="data.path") -> tuple[Source, Path]:
    """A source of two files with one column read, after `change(file)` of the second."""
    write(tmp_path / "a.parquet", n=[1], text=["x"])
    file = write(tmp_path / "b.parquet", n=[2], text=["y"])
    source = open_source(str(tmp_path), key=key)
    assert source.column("n").to_pylist() == [1, 2]
    change(file)
    return source, file


def rewritten_with_the_same_size(file: Path) -> None:
    size = file.stat().st_size
    write(file, n=[3], text=["z"])
    assert file.stat().st_size == size


def replaced_with_the_time_kept(file: Path) -> None:
    stat = file.stat()
    write(file.with_name("new"), n=[3], text=["z"]).replace(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def appended_to_with_the_time_kept(file: Path) -> None:
    stat = file.stat()
    file.write_bytes(file.read_bytes() + b"more")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("read", [lambda source: source.column("text"), Source.fingerprint], ids=["column", "content"])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (rewritten_with_the_same_size, "has changed"),
        (replaced_with_the_time_kept, "has changed"),
        (appended_to_with_the_time_kept, "has changed"),
        (Path.unlink, "has vanished (No such file or directory)"),
    ],
    ids=["rewritten", "replaced", "appended", "vanished"],
)
def test_a_file_that_changed_after_it_was_opened_is_not_read(tmp_path, change, what, read):
    source, file = after_opening(tmp_path, change)
    with pytest.raises(DataError) as caught:
        read(source)
    assert caught.value.message == (
        f"data.path: {file} {what} since the run opened it, and rows of two files must not be mixed"
    )
    assert caught.value.hint == "Put the former file back, then `deeptune resume` the run."
    assert source.column("n").to_pylist() == [1, 2]  # what was read is kept


def test_a_changed_file_is_told_to_a_command_that_is_no_run(tmp_path):
    source, _ = after_opening(tmp_path, Path.unlink, key="--data")
    with pytest.raises(DataError, match="since it was opened") as caught:
        source.column("text")
    assert caught.value.hint == "Put the former file back, then start again."


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_that_changes_while_it_is_read_is_not_used(tmp_path, monkeypatch, damaged):
    """It changes between the look at it and the read, which may then fail for what it meets."""
    source, file = after_opening(tmp_path, lambda file: None)
    look = ParquetSource._require_unchanged

    def look_too_early(self, path):
        look(self, path)
        if path == file:
            file.write_bytes(b"PAR1") if damaged else write(file, n=[3], text=["z"])

    monkeypatch.setattr(ParquetSource, "_require_unchanged", look_too_early)
    with pytest.raises(DataError, match=r"b\.parquet has changed since the run opened it"):
        source.column("text")
    monkeypatch.undo()
    with pytest.raises(DataError, match="has changed"):
        source.column("text")


def test_the_contents_are_hashed_once(tmp_path, monkeypatch):
    source, _ = after_opening(tmp_path, lambda file: None)
    before = source.fingerprint()
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert source.fingerprint() == before
