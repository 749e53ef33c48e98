"""The interface on a real pseudo-terminal: what it writes when nothing happens, when nobody reads, and its end.

What a person typed is kept, and the runs that were started go on.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pyte
import pytest
from ptys import Terminal
from runners import goes_on, new_run, runner, step, until

from deeptune.runs import RunDirectory, read_records, run_state, runs_in, write_json
from tui.draft import Draft, draft_file

SIZE = (80, 24)
ALT, F1, DOWN, CTRL_N, CTRL_Q, CTRL_Z = "\x1b", "\x1bOP", "\x1b[B", "\x0e", "\x11", "\x1a"
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


@pytest.fixture
def variables(environment, tmp_path) -> dict[str, str]:
    """Those of a person's terminal."""
    kept = {key: value for key, value in environment.items() if key != "NO_COLOR"}
    return {**kept, "XDG_STATE_HOME": str(tmp_path / "state"), "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def tui(finished_run, variables, tmp_path):
    """The interface on the folder of a run that was finished hours ago: the age of a fresh one changes."""
    began = json.loads(finished_run.run.read_text())
    write_json(finished_run.run, {**began, "started": time.time() - 10_000})
    with Terminal(["--output", "runs"], tmp_path, variables, module="tui", size=SIZE) as terminal:
        terminal.shows("pictures-2026")
        yield terminal


def monitor(run: RunDirectory, variables: dict[str, str]) -> Terminal:
    """The interface on one run."""
    return Terminal([str(run.path)], run.path.parent, variables, module="tui", size=SIZE)


def shown_on(terminal: Terminal, *words: str, seconds: float = 60) -> str:
    """The picture on a terminal once it has all these words; nothing that was drawn may be dropped before."""
    deadline = time.monotonic() + seconds
    while True:
        terminal.read(0.1)
        picture = screen(terminal.drawn)
        if all(word in picture for word in words):
            return picture
        assert time.monotonic() < deadline, picture


def kept_draft(folder: Path) -> dict[str, str]:
    """What was typed into the wizard in a folder, as it is on the disk."""
    draft = Draft.load(draft_file(folder))
    return draft.given if draft else {}


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


def test_a_hang_up_in_the_wizard_keeps_what_was_typed(variables, tmp_path):
    with Terminal([], tmp_path, variables, module="tui", size=SIZE) as terminal:
        shown_on(terminal, "There are no runs")
        terminal.type("n")
        shown_on(terminal, "path")
        terminal.type("scans/ward7.parquet")
        shown_on(terminal, "scans/ward7.parquet")  # what has not even reached the program is lost with the line
        terminal.close()
        assert terminal.process.wait(timeout=10) == 128 + signal.SIGHUP
    assert kept_draft(tmp_path) == {"data.path": "scans/ward7.parquet"}
    with Terminal([], tmp_path, variables, module="tui", size=SIZE) as terminal:
        shown_on(terminal, "There are no runs")
        terminal.type("n")
        shown_on(terminal, "There is a draft", "scans/ward7.parquet")
        terminal.type("\r")
        shown_on(terminal, "path", "scans/ward7.parquet", "Find file")


def test_what_is_typed_while_nobody_reads_is_kept(variables, tmp_path):
    with Terminal([], tmp_path, variables, module="tui", size=SIZE) as terminal:
        shown_on(terminal, "There are no runs")
        terminal.type("n")
        shown_on(terminal, "path")
        for _ in range(150):  # until nothing more gets through
            terminal.type("\x10")
            time.sleep(0.02)
            terminal.type("\x1b")
            time.sleep(0.02)
        time.sleep(1.0)  # the last escape is one by itself, not the start of a key
        assert terminal.unread() > 0
        terminal.type("scans/ward7.parquet")
        until(lambda: kept_draft(tmp_path) == {"data.path": "scans/ward7.parquet"})


def test_a_run_that_the_interface_launched_goes_on_after_a_hang_up(pictures_parquet, variables, tmp_path):
    spec = tmp_path / "tiny.toml"
    spec.write_text(
        f'name = "tiny"\n[data]\npath = "{pictures_parquet}"\n'
        '[backbone]\nname = "resnet18"\nweights = "random"\nimage_size = 32\n'
        '[train]\nepochs = 3\nbatch_size = 8\ndevice = "cpu"\nworkers = 0\n'
    )
    with Terminal([str(spec)], tmp_path, variables, module="tui", size=SIZE) as terminal:
        shown_on(terminal, "New run", "48 rows")
        terminal.type("\x12")  # ctrl+r
        shown_on(terminal, "ready")
        terminal.type("\r")
        until(lambda: runs_in(tmp_path / "runs"))
        (run,) = runs_in(tmp_path / "runs")
        until(lambda: run_state(run).status)
        terminal.close()
        terminal.process.wait(timeout=10)
        assert not run_state(run).over
    until(lambda: run_state(run).over)
    assert run_state(run).word == "done", run.console.read_text()


def test_a_run_that_the_interface_resumed_goes_on_after_a_hang_up(pictures_parquet, variables, tmp_path):
    run = new_run(tmp_path / "runs", pictures_parquet, network="resnet18", epochs=5)
    with runner(run) as pid:
        until(lambda: step(run) > 1)
        os.killpg(pid, signal.SIGKILL)
        until(lambda: run_state(run).over)
    killed = run_state(run).status["pid"]
    with Terminal(["--output", "runs"], tmp_path, variables, module="tui", size=SIZE) as terminal:
        shown_on(terminal, "tiny")
        terminal.type("r")
        until(lambda: run_state(run).status["pid"] != killed)
        terminal.close()
        terminal.process.wait(timeout=10)
    until(lambda: run_state(run).over)
    assert run_state(run).word == "done", run.console.read_text()


def test_a_run_is_watched_again_midway_and_after_it_was_killed(pictures_parquet, variables, tmp_path):
    run = new_run(tmp_path / "runs", pictures_parquet)
    with runner(run) as pid:
        until(lambda: step(run) > 12)  # of 5 or so in an epoch
        for _ in range(2):  # a line that drops, and another look
            with monitor(run, variables) as terminal:
                shown_on(terminal, "running", "epoch")
                terminal.close()
                terminal.process.wait(timeout=10)
            assert goes_on(run)
        os.killpg(pid, signal.SIGKILL)
        until(lambda: run_state(run).over)
    epochs = sum(event["kind"] == "epoch" and event["epoch"] > 0 for event in read_records(run.events))
    with monitor(run, variables) as terminal:
        picture = shown_on(terminal, run_state(run).word, str(epochs))
    assert "running" not in picture


def test_a_finished_run_is_watched_again_with_all_its_epochs(finished_run, variables):
    with monitor(finished_run, variables) as terminal:
        shown_on(terminal, "✓ done", "for 3 epochs", "best val/loss")


def test_keys_of_one_write_go_where_they_would_go_one_by_one(variables, tmp_path):
    """From the list of runs through five steps of the wizard: no key waits for what is drawn."""
    with Terminal([], tmp_path, variables, module="tui", size=SIZE) as terminal:
        shown_on(terminal, "There are no runs")
        terminal.type("nsample:dig\t\r" + 4 * CTRL_N + "3\t16\r0.1")
        wanted = {"data.path": "sample:digits_rotation", "train.epochs": "3", "train.batch_size": "16"}
        until(lambda: kept_draft(tmp_path) == {**wanted, "train.learning_rate": "0.1"})


def test_alt_and_a_digit_goes_to_a_step_and_types_nothing(variables, tmp_path):
    with Terminal([], tmp_path, variables, module="tui", size=SIZE) as terminal:
        shown_on(terminal, "There are no runs")
        terminal.type("nscans")
        shown_on(terminal, "scans")
        terminal.type(f"{ALT}5")
        shown_on(terminal, "epochs", "batch size")
        terminal.type(f"{ALT}3")
        shown_on(terminal, "layers")
        until(lambda: kept_draft(tmp_path) == {"data.path": "scans"})


def test_alt_and_digits_of_one_write_type_nothing(variables, tmp_path):
    """None is taken for the beginning of the next sequence, be it Alt and a digit or an arrow."""
    with Terminal([], tmp_path, variables, module="tui", size=SIZE) as terminal:
        terminal.type(f"nscans{ALT}5")
        shown_on(terminal, "epochs", "batch size")
        terminal.type(f"3\t16{ALT}2{ALT}5{DOWN}8{ALT}3")
        shown_on(terminal, "layers", "dropout")
        wanted = {"data.path": "scans", "train.epochs": "3", "train.batch_size": "8"}
        until(lambda: kept_draft(tmp_path) == wanted)


def test_ctrl_q_leaves_from_a_window_too(tui):
    tui.type(F1)
    shown_on(tui, "Keys")
    tui.type(CTRL_Q)
    assert tui.ends(seconds=10) == 0


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_draws_all_of_it_again(tui):
    def state() -> str:
        return Path(f"/proc/{tui.process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    settle(tui)
    tui.type(CTRL_Z)
    until(lambda: tui.read(0.1) and state() == "T")
    assert "\x1b[?1049l" in tui.drawn
    tui.drawn = ""
    tui.signal(signal.SIGCONT)
    shown_on(tui, "pictures-2026", "Help")


def test_no_color_sends_no_colour(finished_run, variables):
    with Terminal([], finished_run.path.parent.parent, {**variables, "NO_COLOR": "1"}, module="tui", size=SIZE) as term:
        shown_on(term, "pictures-2026")
        for keys, words in (("\r", "done"), (F1, "Keys"), (ALT, "done")):
            term.type(keys)
            shown_on(term, words)
        assert "\x1b[0;7m" in term.drawn or ";7m" in term.drawn  # the cursor is seen all the same
        assert COLOUR.findall(term.drawn) == []


def test_the_linux_console_gets_the_characters_that_it_has(finished_run, variables):
    arguments = [str(finished_run.path)]
    with Terminal(arguments, finished_run.path.parent, variables, module="tui", size=SIZE, kind="linux") as terminal:
        shown_on(terminal, "√ done", "best val/loss", "step")
        terminal.drawn.encode("cp437")
