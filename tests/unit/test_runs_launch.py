"""Starting a runner that outlives whoever started it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from runners import holding

from deeptune.errors import CheckpointError
from deeptune.runs import RunDirectory, new_run_directory, run_state, write_json, write_text
from deeptune.runs.launch import start_runner
from deeptune.runs.lock import lock_owner


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunDirectory:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    run = new_run_directory(tmp_path / "runs", "test")
    write_text(run.spec, '[data]\npath = "nothing.parquet"\n[backbone]\nname = "resnet18"\n')
    return run


def test_it_is_at_work_in_a_session_of_its_own_with_no_pipe_to_anyone(run, tmp_path):
    (tmp_path / "random.py").write_text("raise SystemExit('a module of the person, not of the library')")
    process = start_runner(run)
    try:
        assert run_state(run).alive
        owner = lock_owner(run)
        assert owner.pid == process.pid
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
        if Path("/proc/self/fd").exists():
            for number, target in ((0, "/dev/null"), (1, str(run.console)), (2, str(run.console))):
                assert os.readlink(f"/proc/{process.pid}/fd/{number}") == target
        with pytest.raises(CheckpointError, match=f"in progress: process {process.pid} on"):
            start_runner(run)
        os.kill(process.pid, signal.SIGHUP)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert run_state(run).word == "crashed"


def test_one_that_cannot_begin_says_why_and_does_not_pass_for_the_attempt_before(run):
    write_json(run.result, {"state": "stopped", "message": "earlier"})
    write_json(run.status, {"state": "stopped", "pid": 1})
    run.events.mkdir()
    with pytest.raises(CheckpointError, match=r"exit code 6: .*events.jsonl: Is a directory") as caught:
        start_runner(run)
    assert "console.log" in caught.value.hint


def test_a_spec_that_was_edited_wrongly_leaves_the_last_word_where_it_was(run):
    write_json(run.result, {"state": "stopped", "message": "earlier"})
    write_text(run.spec, "[trian]\n")
    with pytest.raises(CheckpointError, match=r"ended at once with exit code 2: .*(\n.*)*trian: unknown key"):
        start_runner(run)
    assert run_state(run).detail == "earlier"


def test_none_is_started_beside_one_that_is_at_work(run):
    with holding(run) as pid, pytest.raises(CheckpointError, match=f"process {pid} on"):
        start_runner(run)
    assert not run.console.exists()
