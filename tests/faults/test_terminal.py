"""Whatever becomes of a terminal or a viewer, the run goes on; and it stops when a person says so."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil
import pytest
from ptys import Terminal
from runners import goes_on, kinds, new_run, runner, step, until

from deeptune.cli.watch import QUESTION
from deeptune.runs import run_state, runs_in
from deeptune.runs.control import request_stop
from deeptune.runs.lock import lock_owner

LINE = "Ctrl+C again leaves without waiting"


@pytest.fixture
def at_work(tmp_path, image_file):
    """A run at work in a process of its own."""
    run = new_run(tmp_path / "runs", image_file())
    with runner(run):
        until(lambda: step(run) > 0)
        yield run


@pytest.fixture
def attached(at_work, tmp_path, environment):
    """A dashboard of that run on a terminal."""
    with Terminal(["attach", "latest"], tmp_path, environment) as terminal:
        terminal.shows("● running")
        yield terminal


def stopped(run) -> bool:
    return until(lambda: run_state(run).word == "stopped")


# What happens to viewers.


def test_a_run_outlives_the_terminal_it_was_started_on(tmp_path, environment, image_file):
    settings = {"tuning.method": "full", "train.epochs": 100_000, "train.early_stopping.patience": 0}
    tiny = {"backbone.name": "mobilenet_v3_small", "backbone.weights": "random", "backbone.image_size": 32}
    tiny["train.device"] = "cpu"
    words = [word for key, value in {**tiny, **settings}.items() for word in ("--set", f"{key}={value}")]
    with Terminal(["run", "--data", str(image_file()), *words], tmp_path, environment) as terminal:
        terminal.shows("● train", seconds=120)
        (run,) = runs_in(tmp_path / "runs")
        terminal.close()  # as a line that drops: the terminal's session is sent SIGHUP
        terminal.process.wait(60)
    try:
        assert goes_on(run)
        with Terminal(["attach", "latest"], tmp_path, environment) as again:
            shown = again.shows("● running")
            for part in ("● train", "mobilenet_v3_small (random weights)", "train loss", "best", "checkpoint"):
                assert part in shown, part
        os.kill(lock_owner(run).pid, signal.SIGHUP)
        assert goes_on(run)
    finally:
        request_stop(run, "by the test")
        assert stopped(run)
    assert kinds(run).count("run") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_to_a_viewer_ends_that_alone(at_work, attached, number):
    attached.signal(number)
    assert attached.ends() == -number
    if number == signal.SIGTERM:
        assert "the run continues: deeptune attach" in attached.read()
    assert goes_on(at_work)
    assert "stopping" not in kinds(at_work)


def test_a_terminal_that_closes_without_a_word_ends_its_viewer_quietly(at_work, tmp_path, environment):
    with Terminal(["attach", "latest"], tmp_path, environment, hangs_up=False) as terminal:
        terminal.shows("● running")
        terminal.close()
        assert terminal.process.wait(30) == 0
    assert goes_on(at_work)


def test_a_terminal_that_nobody_reads_holds_up_its_viewer_alone(at_work, attached):
    """The rate of the run is not measured here, where other things run: only that it goes on all the while."""
    until(lambda: attached.unread() > 0)
    full = until(lambda: (size := attached.unread()) and (time.sleep(2.5), size == attached.unread())[1] and size)
    assert goes_on(at_work, steps=10)
    assert attached.unread() == full, "the viewer stands still"
    assert attached.process.poll() is None
    # It can still be ended, though it is in the middle of a write.
    attached.signal(signal.SIGTERM)
    assert attached.process.wait(10) == -signal.SIGTERM
    assert goes_on(at_work)


def test_a_run_in_the_foreground_goes_on_to_its_end_on_a_terminal_that_nobody_reads(tmp_path, environment, image_file):
    run = new_run(tmp_path / "runs", image_file(), network="resnet18", epochs=30)
    os.utime(run.spec, (1, 1))  # as one that never got to work: there is nobody to wait for
    with Terminal(["resume", "latest", "--foreground"], tmp_path, environment) as terminal:
        until(lambda: run_state(run).word == "done", seconds=240)
        assert run.report.exists()
        assert terminal.process.poll() is None, "it waits to tell its summary"
        assert terminal.ends() == 0
        assert "Test metrics" in terminal.read()


# What a person does.


def test_ctrl_c_asks_and_enter_keeps_watching(at_work, attached):
    attached.press_ctrl_c()
    attached.shows(QUESTION)
    attached.type("what?\n")
    attached.shows(QUESTION)
    attached.type("\n")
    attached.shows("● running")
    assert goes_on(at_work)
    attached.press_ctrl_c()
    attached.shows(QUESTION)
    attached.type("d\n")
    assert attached.ends() == 0
    assert f"the run continues: deeptune attach {at_work.id}" in attached.read()
    assert goes_on(at_work)


def test_ctrl_c_and_s_stop_the_run(at_work, attached):
    attached.press_ctrl_c()
    attached.shows(QUESTION)
    attached.type("s\n")
    shown = attached.shows("stopping after this step")
    assert attached.ends() == 130
    # The run may stop so soon that both came at once.
    assert f"Resume with: deeptune resume {at_work.id}" in shown + attached.read()
    assert run_state(at_work).word == "stopped"
    assert at_work.last.is_dir()


def test_ctrl_c_twice_stops_the_run(at_work, attached):
    attached.press_ctrl_c()
    attached.shows(QUESTION)
    attached.press_ctrl_c()
    assert attached.ends() == 130
    assert run_state(at_work).word == "stopped"


def test_a_third_ctrl_c_leaves_and_the_request_stands(at_work, attached):
    owner = lock_owner(at_work)
    os.kill(owner.pid, signal.SIGSTOP)  # it can't answer
    try:
        attached.press_ctrl_c()
        attached.shows(QUESTION)
        attached.press_ctrl_c()
        attached.shows(LINE)
        attached.press_ctrl_c()
        assert attached.ends() == 130
        assert "will stop at its next step" in attached.read()
    finally:
        os.kill(owner.pid, signal.SIGCONT)
    assert stopped(at_work)


def test_the_end_of_input_at_the_question_detaches(at_work, attached):
    attached.press_ctrl_c()
    attached.shows(QUESTION)
    attached.type("\x04")
    assert attached.ends() == 0
    assert goes_on(at_work)


def test_a_run_that_ends_while_the_question_stands(at_work, attached):
    attached.press_ctrl_c()
    attached.shows(QUESTION)
    request_stop(at_work, "by the test")
    assert attached.ends() == 130
    assert "stopped" in attached.read()


# What the run does under the eyes of a viewer.


def test_a_run_that_crashes_is_told_as_crashed(at_work, attached):
    os.kill(lock_owner(at_work).pid, signal.SIGKILL)
    assert attached.ends() == 5
    shown = attached.read()
    assert "run crashed: process" in " ".join(shown.split())
    assert f"deeptune resume {at_work.id}" in shown


def test_a_viewer_costs_little(at_work, attached):
    """It looks at files now and then and sleeps in between; half of a core would be no sleep."""
    viewer = psutil.Process(attached.process.pid)
    before, began = sum(viewer.cpu_times()[:2]), time.monotonic()
    while time.monotonic() - began < 4:
        attached.read()
    assert sum(viewer.cpu_times()[:2]) - before < 2, "it spins"


def test_the_second_attempt_is_told_after_the_first(at_work, tmp_path, environment):
    until(lambda: "checkpoint" in kinds(at_work))
    request_stop(at_work, "by the test")
    assert stopped(at_work)
    with runner(at_work):
        until(lambda: kinds(at_work).count("run") == 2 and step(at_work) > 0)
        with Terminal(["attach", "latest"], tmp_path, environment) as terminal:
            shown = terminal.shows("● running")
            assert "resumed after step" in shown or "started again" in shown
            terminal.press_ctrl_c()
            terminal.shows(QUESTION)
            terminal.press_ctrl_c()
            assert terminal.ends() == 130
    events = [json.loads(line) for line in at_work.events.read_text().splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
