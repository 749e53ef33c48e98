"""The bell, the notification and the title at the end of a run."""

from __future__ import annotations

import pytest

from deeptune.runs import RunDirectory, RunState
from deeptune.show.announce import BELL, announcement, end_text, wants_bell


def test_a_terminal_rings_notifies_and_changes_its_title() -> None:
    said = announcement("✓ done: scans", "xterm-256color")
    assert said == "\x1b]2;✓ done: scans\a\x1b]9;DeepTune ✓ done: scans\a\a"


@pytest.mark.parametrize("term", ["", "dumb", "unknown"])
def test_a_terminal_that_is_none_gets_nothing(term: str) -> None:
    assert announcement("done", term) == ""


def test_the_linux_console_gets_the_bell_alone() -> None:
    assert announcement("done", "linux") == BELL


def test_a_name_can_do_nothing_to_the_terminal() -> None:
    said = announcement("done: \x1b[2J\x07;evil\x9c" + "x" * 1000, "xterm")
    inside = said.removeprefix("\x1b]2;").partition(BELL)[0]
    assert inside.isprintable()
    assert ";" not in inside
    assert len(inside) <= 120


def test_the_words_of_an_end(tmp_path) -> None:
    assert end_text(RunDirectory(tmp_path / "scans"), RunState("failed")) == "✗ failed: scans"


@pytest.mark.parametrize(("value", "wanted"), [("0", False), ("Off", False), ("no", False), ("1", True), ("", True)])
def test_the_bell_is_turned_off_by_the_environment(monkeypatch, value: str, wanted: bool) -> None:
    monkeypatch.setenv("DEEPTUNE_BELL", value)
    assert wants_bell() == wanted
