"""A run that ends while it is watched rings, notifies and sets the title, on a real pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from ptys import ESCAPE, Terminal
from runners import holding

from deeptune.runs import EventWriter, RunDirectory

NOTIFICATION = "\x1b]9;DeepTune ✗ crashed: "
TITLE = "\x1b]2;✗ crashed: "
KEEP_TITLE, FORMER_TITLE = "\x1b[22;2t", "\x1b[23;2t"


@pytest.fixture
def begun(made: RunDirectory) -> RunDirectory:
    """A run whose process is gone."""
    made.lock.touch()
    EventWriter(made.events).record("run", id=made.id, started=0, pid=1)
    return made


@pytest.fixture
def variables(environment) -> dict[str, str]:
    kept = {key: value for key, value in environment.items() if key not in ("NO_COLOR", "DEEPTUNE_BELL")}
    return {**kept, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def read_until(terminal: Terminal, text: str, *, seconds: float = 60) -> None:
    """Read until a text without blanks was written; nothing that was drawn is dropped."""
    deadline = time.monotonic() + seconds
    while text not in re.sub(r"\s+", "", ESCAPE.sub("", terminal.drawn)):
        assert time.monotonic() < deadline, terminal.drawn[-3000:]
        terminal.read()


def watch(run: RunDirectory, module: str, variables: dict[str, str], *arguments: str, keys: str = "") -> str:
    """All that is written to a terminal on which a run is watched while it is killed; then `keys` are typed."""
    words = [str(run.path), *arguments] if module == "tui" else ["attach", str(run.path), *arguments]
    with holding(run) as pid, Terminal(words, Path.cwd(), variables, module=module, size=(80, 24)) as terminal:
        read_until(terminal, "run/" if "--plain" in arguments else "●running")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        read_until(terminal, "(byhandoroutofmemory)")
        terminal.type(keys)
        terminal.ends()
        return terminal.drawn


def test_the_interface_rings_and_gives_the_title_back_at_its_end(begun, variables):
    drawn = watch(begun, "tui", variables, keys="\x11")
    assert NOTIFICATION + begun.id in drawn
    assert drawn.index(KEEP_TITLE) < drawn.index(TITLE + begun.id) < drawn.index(FORMER_TITLE)


@pytest.mark.parametrize("how", ["flag", "settings"])
def test_the_interface_is_silent_where_that_is_asked_for(begun, variables, tmp_path, how):
    if how == "settings":
        (tmp_path / "config" / "deeptune").mkdir(parents=True)
        (tmp_path / "config" / "deeptune" / "settings.toml").write_text("bell = false\n")
        variables["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    drawn = watch(begun, "tui", variables, *(["--no-bell"] if how == "flag" else []), keys="\x11")
    assert "\x1b]9;" not in drawn
    assert TITLE not in drawn


def test_the_dashboard_rings(begun, variables):
    drawn = watch(begun, "deeptune", variables)
    assert NOTIFICATION + begun.id in drawn
    assert TITLE + begun.id in drawn


@pytest.mark.parametrize("how", ["plain", "environment"])
def test_plain_lines_and_a_person_who_wants_none_have_no_bell(begun, variables, how):
    if how == "environment":
        variables["DEEPTUNE_BELL"] = "0"
    drawn = watch(begun, "deeptune", variables, *(["--plain"] if how == "plain" else []))
    assert "\x1b]9;" not in drawn
    assert "\a" not in drawn


def test_a_run_that_was_over_before_has_no_bell(begun, variables):
    with Terminal(["attach", str(begun.path)], Path.cwd(), variables, size=(80, 24)) as terminal:
        read_until(terminal, "therunnerneverstarted")
        terminal.ends()
        assert "\x1b]9;" not in terminal.drawn
