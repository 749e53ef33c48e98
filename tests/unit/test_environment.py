"""Gaps around a process: closed streams, no home, a folder that is gone, encodings, names."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deeptune.environment import prepare_process, require_current_folder, require_utf8, short_path, user_path
from deeptune.errors import DataError, SpecError


def python(code: str, *, before: str = "", **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run Python code in a shell, with some variables set or (None) left out."""
    environment = {**os.environ, **{key: value for key, value in variables.items() if value is not None}}
    for key in (key for key, value in variables.items() if value is None):
        environment.pop(key, None)
    command = ["sh", "-c", f'{before} exec "$0" -c "$1"', sys.executable, code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_closed_stream_does_not_lend_its_number_to_a_file(tmp_path):
    file = tmp_path / "data.txt"
    code = f"""
from deeptune.environment import prepare_process
prepare_process()
import os, sys
with open({str(file)!r}, "w") as stream:
    assert stream.fileno() > 2
    print("said to nobody"); sys.stderr.write("either"); os.write(1, b"nor by a library")
    assert sys.stdin.read() == ""
    stream.write("mine")
"""
    answer = python(code, before="exec <&- >&- 2>&-;")
    assert answer.returncode == 0
    assert file.read_text() == "mine"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_text_that_an_encoding_lacks_becomes_its_nearest(encoding):
    code = "from deeptune.environment import prepare_process; prepare_process(); print('a → b… ● naïve ━ 猫 \\udce9')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False, timeout=60)
    assert answer.returncode == 0, answer.stderr
    said = answer.stdout.decode(encoding)
    assert said.startswith("a > b")
    assert said.rstrip().endswith("- ?? ?")


def test_a_home_that_is_missing_is_made_among_the_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "relative")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    prepare_process()
    home = Path(os.environ["HOME"])
    assert home == tmp_path / f"deeptune-{os.getuid()}"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert Path("~/x").expanduser() == home / "x"


def test_a_home_that_others_can_write_to_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "relative")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    planted = tmp_path / f"deeptune-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    prepare_process()
    assert Path(os.environ["HOME"]) != planted
    assert Path(os.environ["HOME"]).parent == tmp_path


def test_a_home_that_works_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    prepare_process()
    assert os.environ["HOME"] == str(tmp_path)


def test_a_user_without_an_account_has_a_name(tmp_path, monkeypatch):
    import getpass

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setenv("HOME", str(tmp_path))
    prepare_process()
    assert getpass.getuser() == str(os.getuid())


def test_a_current_folder_that_was_removed(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    require_current_folder()
    folder.rmdir()
    with pytest.raises(SpecError, match="the current folder cannot be used"):
        require_current_folder()
    assert short_path(tmp_path / "x") == str(tmp_path / "x")
    os.chdir(tmp_path)
    assert short_path(tmp_path / "x") == "x"


def test_the_home_of_nobody():
    with pytest.raises(DataError, match=r"data.path: ~no-such-user/x: there is no such home folder"):
        user_path("~no-such-user/x", key="data.path", error=DataError)


def test_a_name_that_is_not_utf8():
    require_utf8("données/mes images.parquet", key="data.path")
    with pytest.raises(DataError, match=r"data.path: the name b'donn\\xe9es' in .* is not UTF-8"):
        require_utf8(os.fsdecode(b"a/donn\xe9es/x.parquet"), key="data.path", error=DataError)


def test_an_empty_variable_of_a_library_is_an_unset_one(monkeypatch):
    for name in ("HF_ENDPOINT", "HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    prepare_process()
    assert [name for name in ("HF_ENDPOINT", "HF_HOME", "TORCH_HOME", "HF_TOKEN") if name in os.environ] == ["HF_TOKEN"]
