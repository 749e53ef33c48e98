"""What a run is doing: exact where it runs, honest elsewhere, whatever its files say."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest
from runners import holding

from deeptune.errors import DataError, DeepTuneError, RunCrashed, RunStopped
from deeptune.runs import new_run_directory, run_state, write_json, write_text
from deeptune.runs.lock import run_lock
from deeptune.runs.state import SYMBOLS, ending, last_words


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = new_run_directory(tmp_path / "runs", "test")
    write_text(run.spec, "")
    return run


def left(run, *, heartbeat: float = 5.0, status: dict | None = None, **owner) -> None:
    """A run whose runner is gone, as its files say, or on another machine when `owner` says so."""
    with run_lock(run):
        pass
    run.lock.write_text(json.dumps({**json.loads(run.lock.read_text()), **owner}))
    write_json(run.status, {"state": "running", "pid": 1, "heartbeat": time.time() - heartbeat, **(status or {})})


ELSEWHERE = {"host": "elsewhere", "boot_id": "theirs"}


@pytest.mark.parametrize("word", ["running", "stopping", "paused"])
def test_a_run_at_work(run, word):
    with holding(run, state=word):
        state = run_state(run)
        assert (state.word, state.alive, state.over, state.resumable) == (word, True, False, False)


def test_a_runner_that_has_told_its_end_is_not_over_before_it_has_let_go(run):
    with holding(run, state="failed"):
        assert run_state(run).word == "running"
        write_json(run.result, {"state": "failed", "message": "no", "error": None})
        assert not run_state(run).over
    assert run_state(run).word == "failed"


def test_a_runner_that_has_just_begun_does_not_answer_for_the_attempt_before(run):
    with holding(run):
        write_json(run.status, {"state": "stopped", "pid": 1, "heartbeat": time.time()})
        state = run_state(run)
        assert (state.word, state.alive, state.over) == ("starting", True, False)


def test_a_runner_that_is_suspended(run):
    with holding(run, heartbeat=120) as pid:
        os.kill(pid, signal.SIGSTOP)
        state = run_state(run)
        assert (state.word, state.alive) == ("running", True)
        assert "no sign of life for 120 s" in state.detail


def test_a_run_that_starts_has_half_a_minute(run):
    assert run_state(run).word == "starting"
    for moved in (-60, 60):  # a spec of the future is not a reason to wait for ever
        os.utime(run.spec, (time.time() + moved, time.time() + moved))
        state = run_state(run)
        assert (state.word, state.detail) == ("crashed", "the runner never started")


@pytest.mark.parametrize("word", ["done", "stopped", "failed"])
def test_a_run_that_came_to_an_end(run, word):
    left(run)
    write_json(run.result, {"state": word, "message": "a word"})
    state = run_state(run)
    assert (state.word, state.alive, state.over, state.detail) == (word, False, True, "a word")
    assert state.resumable == (word != "done")


def test_a_run_that_was_killed(run):
    with holding(run) as pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        state = run_state(run)
    assert (state.word, state.alive, state.over, state.resumable) == ("crashed", False, True, True)
    assert state.detail == f"process {pid} was killed (by hand or out of memory)"
    write_text(run.console, "Traceback\nKilled: \x1b[31mwhy\n\n")
    error = ending(run, state)
    assert isinstance(error, RunCrashed)
    assert "Its last output: Killed: \x1b[31mwhy" in error.message
    assert error.hint == f"Resume with: deeptune resume {run.id}"


@pytest.mark.parametrize("last", ["ImportError: libtorch.so: failed to map segment", "MemoryError", "a.b.SomeError: x"])
def test_a_runner_that_could_not_even_be_imported_was_not_killed(run, last):
    with holding(run) as pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    write_text(run.console, f"Traceback (most recent call last):\n  import torch\n{last}\n")
    assert run_state(run).detail == f"process {pid} ended with an error that it could not record"
    assert f"Its last output: {last}" in ending(run, run_state(run)).message


def test_a_run_that_was_resumed_and_killed_has_no_last_words_of_the_attempt_before(run):
    write_text(run.console, "stopped: the run was stopped at step 6 of 520\n")
    os.utime(run.console, (time.time() - 60,) * 2)
    left(run)
    error = ending(run, run_state(run))
    assert isinstance(error, RunCrashed)
    assert "stopped" not in error.message
    write_text(run.console, "stopped: the run was stopped at step 6 of 520\nKilled\n")
    assert last_words(run) == "Killed"


def test_a_run_whose_folder_is_gone_is_deleted_and_not_resumable(run):
    left(run)
    shutil.rmtree(run.path)
    state = run_state(run)
    assert (state.word, state.over, state.resumable) == ("deleted", True, False)
    error = ending(run, state)
    assert isinstance(error, RunCrashed)
    assert (error.message, error.hint) == ("its folder is gone", None)


def test_a_machine_that_was_restarted(run):
    left(run, boot_id="before")
    state = run_state(run)
    assert state.word == "crashed"
    assert "was restarted while it ran" in state.detail


@pytest.mark.parametrize(
    ("heartbeat", "word", "over"),
    [(5, "running", False), (100, "stale", False), (3600, "presumed dead", True), (-3600, "stale", False)],
)
def test_a_run_on_another_machine_goes_by_its_last_sign_of_life(run, heartbeat, word, over):
    left(run, heartbeat=heartbeat, **ELSEWHERE)
    state = run_state(run)
    assert (state.word, state.alive, state.over) == (word, None, over)
    assert "elsewhere" in state.detail
    if heartbeat < 0:
        assert "the clock on elsewhere is 3600 s ahead" in state.detail
    write_json(run.result, {"state": "done"})
    assert run_state(run).word == "done"


@pytest.mark.parametrize("jump", [-86400, 86400])
def test_a_clock_that_jumped_says_nothing_here(run, jump):
    with holding(run, heartbeat=jump if jump < 0 else 0):
        assert run_state(run).word == "running"
    left(run, heartbeat=jump)
    assert run_state(run).word == "crashed"


@pytest.mark.parametrize(
    "status",
    [
        "", "[]", "{", '{"heartbeat": "x"}', '{"heartbeat": NaN, "pid": [1]}', '{"state": "\\u001b[31m"}',
        '{"state": {}, "step": "x", "best": 3, "progress": {"done": null}, "checkpoint": []}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_status_hides_nothing_else(run, status):
    with holding(run):
        run.status.write_text(status)
        assert run_state(run).word in ("starting", "running")
    run.status.write_text(status)
    assert run_state(run).word == "crashed"
    run.lock.write_text(json.dumps({**json.loads(run.lock.read_text()), **ELSEWHERE}))
    assert run_state(run).word in SYMBOLS
    run.result.write_text(status)
    assert run_state(run).word in SYMBOLS


def test_each_ending_is_raised_with_its_own_exit_code_and_how_to_go_on(run):
    left(run)

    def how(result: dict) -> DeepTuneError | None:
        write_json(run.result, result)
        return ending(run, run_state(run))

    assert how({"state": "done"}) is None
    stopped = how({"state": "stopped", "message": "at step 3"})
    assert isinstance(stopped, RunStopped)
    assert (stopped.exit_code, stopped.message) == (130, "at step 3")
    told = {"title": "data error", "message": "row 3", "hint": "Look."}
    failed = how({"state": "failed", "message": "row 3\nLook.", "error": told})
    assert isinstance(failed, DataError)
    assert (failed.message, failed.hint) == ("row 3", "Look."), "without a checkpoint there is nothing to go on from"
    run.last.mkdir(parents=True)
    failed = how({"state": "failed", "message": "row 3\nLook.", "error": told})
    assert failed.hint == f"Look.\nThen: deeptune resume {run.id}"
    defect = how({"state": "failed", "message": "KeyError: 'x'", "error": None})
    assert (type(defect), defect.exit_code, defect.message) == (DeepTuneError, 1, "KeyError: 'x'")
    assert "console.log" in defect.hint
    assert how({"state": "failed", "error": [1]}).exit_code == 1
    assert how({"state": "failed", "error": {"title": 3, "message": None}}).exit_code == 1


def test_the_command_that_is_told_names_the_run_from_where_one_is(run, tmp_path, monkeypatch):
    left(run)
    assert run.reference == run.id
    monkeypatch.chdir(tmp_path / "runs")
    assert run.reference == run.id
    (tmp_path / "a b").mkdir()
    other = new_run_directory(tmp_path / "a b", "other")
    monkeypatch.chdir(tmp_path)
    assert other.reference == f"'a b/{other.id}'"
