"""The interface on a real pseudo-terminal: what it writes when nothing happens, when nobody reads, and its end."""

from __future__ import annotations

import signal
import time

import pyte
import pytest
from ptys import Terminal

SIZE = (80, 24)


@pytest.fixture
def tui(finished_run, environment, tmp_path):
    """The interface on the folder of a finished run."""
    kept = {key: value for key, value in environment.items() if key != "NO_COLOR"}
    variables = {**kept, "XDG_STATE_HOME": str(tmp_path / "state"), "LC_ALL": "C.UTF-8"}
    arguments = ["--output", str(finished_run.path.parent)]
    with Terminal(arguments, tmp_path, variables, module="tui", size=SIZE) as terminal:
        terminal.shows("pictures-2026")
        yield terminal


def screen(drawn: str) -> str:
    """What a terminal shows after it was sent all of this."""
    picture = pyte.Screen(*SIZE)
    pyte.Stream(picture).feed(drawn)
    return "\n".join(picture.display)


def settle(terminal: Terminal) -> None:
    """Read until nothing has come for two seconds."""
    terminal.read(2.0)
    terminal.drawn = ""


def test_nothing_is_written_while_nothing_changes(tui):
    settle(tui)
    tui.read(6.0)
    assert tui.drawn == ""


def test_a_hang_up_ends_it(tui):
    tui.close()
    assert tui.process.wait(timeout=10) == 128 + signal.SIGHUP


def test_sigterm_gives_the_terminal_back(tui):
    tui.signal(signal.SIGTERM)
    assert tui.ends(seconds=10) == 128 + signal.SIGTERM
    assert "\x1b[?1049l" in tui.drawn  # the shell's own screen


def test_a_terminal_that_nobody_reads_holds_nothing_up(tui):
    """It is redrawn again and again and never read; then it is asked to end, which takes no reader either."""
    settle(tui)
    for _ in range(150):
        tui.type("\x10")  # the command palette
        time.sleep(0.02)
        tui.type("\x1b")
        time.sleep(0.02)
    assert tui.unread() > 0
    tui.signal(signal.SIGHUP)
    assert tui.process.wait(timeout=10) == 128 + signal.SIGHUP


def test_a_terminal_that_is_read_again_shows_the_whole_picture(tui):
    settle(tui)
    for _ in range(150):
        tui.type("\x10")
        time.sleep(0.02)
        tui.type("\x1b")
        time.sleep(0.02)
    tui.read(2.0)  # what had got through before it stalled, and the picture as it is now
    tui.drawn = ""
    tui.type("o")
    tui.shows("name")
    tui.type("\x11")
    assert tui.ends() == 0


def test_what_is_left_on_the_screen_is_what_a_terminal_would_show(finished_run, environment, tmp_path):
    kept = {key: value for key, value in environment.items() if key != "NO_COLOR"}
    arguments = ["--output", str(finished_run.path.parent)]
    with Terminal(
        arguments, tmp_path, {**kept, "LC_ALL": "C.UTF-8"}, module="tui", size=SIZE, hangs_up=False
    ) as terminal:
        terminal.read(3.0)
        shown = screen(terminal.drawn)
    assert "DeepTune" in shown.splitlines()[0]
    assert "done" in shown


def test_a_locale_without_utf8_gets_ascii(finished_run, environment, tmp_path):
    kept = {key: value for key, value in environment.items() if key not in ("NO_COLOR", "LC_ALL")}
    arguments = ["--output", str(finished_run.path.parent)]
    with Terminal(arguments, tmp_path, {**kept, "LC_ALL": "C"}, module="tui", size=SIZE) as terminal:
        terminal.shows("pictures-2026")
        terminal.read(1.0)
        assert terminal.drawn.isascii()
