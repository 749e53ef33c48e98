"""Files that replace others: the old one or the new one, never a part, and nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import stat
import threading
import time

import pytest

from deeptune.errors import CheckpointError
from deeptune.runs.files import fits, read_json, replacing, write_json, write_text


def test_write_and_replace(tmp_path):
    file = tmp_path / "deep" / "er" / "status.json"
    write_json(file, {"state": "running", "name": "é\x1b"})
    assert read_json(file) == {"state": "running", "name": "é\x1b"}
    write_json(file, [1, 2.5, None])
    assert file.read_text() == "[\n  1,\n  2.5,\n  null\n]\n"
    assert os.listdir(file.parent) == ["status.json"]


def test_the_mode_is_what_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_keeps_the_old_file(tmp_path, error):
    file = tmp_path / "metrics.json"
    write_text(file, "old")

    def half() -> None:
        with replacing(file) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(error):
        half()
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_json_without_a_number_that_json_has_not(tmp_path, value):
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == 1


def test_a_path_that_is_no_text_becomes_an_escape(tmp_path):
    write_json(tmp_path / "run.json", {"argv": [os.fsdecode(b"\xff.parquet")]})
    assert json.loads((tmp_path / "run.json").read_text())["argv"] == ["\udcff.parquet"]


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (int, [0, -3], [True, 1.0, "1", None, []]),
        (float, [0, 1.5, None], [True, float("nan"), float("inf"), "1", {}]),
        (str, ["", "x"], [None, 1]),
        (
            {"a": int, "b": {"c": float}},
            [{"a": 1, "b": {}, "d": 1}],
            [{}, {"a": 1, "b": None}, {"a": 1, "b": {"c": ""}}, {"a": 1, "b": {"c": float("inf")}}, 1],
        ),
    ],
)  # fmt: skip
def test_what_has_the_shape_that_a_reader_needs(shape, good, bad):
    assert all(fits(shape, value) for value in good)
    assert not any(fits(shape, value) for value in bad)


def test_a_full_disk_keeps_the_old_file(tmp_path):
    """A limit on a file's size is met at the same call as a full disk."""
    file = tmp_path / "predictions"
    write_text(file, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"cannot write .*predictions: File too large") as caught:
            write_text(file, "n" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Free some space" in caught.value.hint
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["predictions"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"Not a directory|File exists"):
        write_text(tmp_path / "file" / "below", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="Is a directory"):
        write_text(tmp_path / "folder", "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_missing_or_damaged_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"result\.json is missing"):
        read_json(tmp_path / "result.json")
    for content in (b'{"a": ', b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "result.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"result\.json cannot be read"):
            read_json(tmp_path / "result.json")


def test_a_reader_never_sees_a_part(tmp_path):
    file, stop = tmp_path / "status.json", threading.Event()
    values = [{"step": step, "padding": "x" * 100_000 * step} for step in (1, 2)]
    write_json(file, values[0])

    def write() -> None:
        while not stop.is_set():
            for value in values:
                write_json(file, value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen, deadline = set(), time.monotonic() + 30
        while len(seen) < 2 and time.monotonic() < deadline:
            seen |= {json.loads(file.read_text())["step"] for _ in range(100)}
    finally:
        stop.set()
        writer.join()
    assert seen == {1, 2}


@pytest.mark.parametrize("through", ["pipe", "link"])
def test_what_is_no_file_is_never_replaced(tmp_path, through):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(CheckpointError, match="is a device, a pipe or a socket"):
        write_text(tmp_path / through, "x")
    assert stat.S_ISFIFO((tmp_path / through).stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]
