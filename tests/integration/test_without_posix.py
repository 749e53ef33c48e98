"""What works where Python lacks the modules that Windows does not have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MISSING = ("fcntl", "grp", "pwd", "resource", "termios")


def deeptune(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"""
import sys
for name in {MISSING!r}:
    sys.modules[name] = None  # an import raises ModuleNotFoundError
sys.argv = ["deeptune", *{arguments!r}]
from deeptune.cli.app import main
main()
"""
    environment = {**os.environ, "USERNAME": "person"}  # as Windows sets it
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["presets"], ["backbones"], ["spec", "fields"]]
)
def test_these_need_none_of_them(arguments):
    done = deeptune(*arguments)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [["run", "quickstart"], ["runs"], ["cache", "list"], ["audit", "sample:openclipart7"]]
)
def test_the_others_name_the_way_on(arguments, tmp_path):
    done = deeptune(*arguments)
    assert done.returncode == 2
    assert "Windows does not have" in done.stderr
    assert "WSL 2" in done.stderr
    assert "Traceback" not in done.stderr
