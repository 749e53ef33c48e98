"""A lock that is held is a runner that lives, whatever else is written about it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import psutil
import pytest
from runners import child, holding, until

from deeptune.errors import CheckpointError
from deeptune.runs import new_run_directory
from deeptune.runs.lock import lock_owner, run_lock, runner_alive
from deeptune.runs.process import ProcessIdentity


@pytest.fixture
def run(tmp_path):
    return new_run_directory(tmp_path, "test")


def rewrite(run, **changes) -> None:
    run.lock.write_text(json.dumps({**json.loads(run.lock.read_text()), **changes}))


def test_a_lock_is_held_as_long_as_its_process_lives(run):
    assert runner_alive(run) is False
    assert lock_owner(run) is None
    with holding(run) as pid:
        assert runner_alive(run) is True
        assert lock_owner(run).pid == pid
        os.kill(pid, signal.SIGSTOP)
        assert runner_alive(run) is True
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert runner_alive(run) is False
        assert lock_owner(run).pid == pid, "who held it last is still known"
        assert lock_owner(run).process() is None
    with run_lock(run):
        assert runner_alive(run) is True
    assert runner_alive(run) is False


def test_a_second_runner_is_refused(run, monkeypatch):
    monkeypatch.setattr("deeptune.runs.lock.PATIENCE", 0.2)
    with holding(run) as pid:
        with pytest.raises(CheckpointError, match=f"in progress: process {pid} on ") as caught, run_lock(run):
            pass
        assert "deeptune stop" in caught.value.hint
        assert lock_owner(run).pid == pid
    with run_lock(run):
        assert lock_owner(run).pid == os.getpid()


def test_a_fork_of_a_runner_does_not_hold_its_lock(run):
    """A data worker that outlives its runner must not pass for it."""
    told, tell = os.pipe()

    def hold() -> None:
        with run_lock(run):
            if (worker := os.fork()) == 0:
                time.sleep(600)
            os.write(tell, str(worker).encode())
            time.sleep(600)

    with child(hold) as pid:
        worker = int(os.read(told, 20))
        assert runner_alive(run) is True
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert psutil.pid_exists(worker)
        assert runner_alive(run) is False
        os.kill(worker, signal.SIGKILL)


def test_viewers_that_look_do_not_keep_a_runner_out(run):
    with run_lock(run):
        pass
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            runner_alive(run)

    viewers = [threading.Thread(target=look) for _ in range(3)]
    for viewer in viewers:
        viewer.start()
    try:
        for _ in range(20):
            with run_lock(run):
                assert runner_alive(run) is True
    finally:
        over.set()
        for viewer in viewers:
            viewer.join()


def test_after_a_restart_of_the_machine_nobody_holds_it(run):
    with run_lock(run):
        pass
    rewrite(run, boot_id="before", pid=os.getpid())
    assert runner_alive(run) is False
    assert lock_owner(run).process() is None, "the number may be anybody's by now"


def test_on_another_machine_only_a_held_lock_tells(run):
    with run_lock(run):
        rewrite(run, boot_id="theirs", host="elsewhere")
        assert runner_alive(run) is True
    assert runner_alive(run) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": "x"}', '{"pid": 1}', "\x00\xff"])
def test_a_damaged_lock_file_still_tells_whether_it_is_held(run, content):
    with holding(run):
        run.lock.write_text(content)
        assert lock_owner(run) is None
        assert runner_alive(run) is True
    assert runner_alive(run) is False


def test_a_pid_is_not_enough_to_be_the_same_process():
    here = ProcessIdentity.here()
    assert here.process().pid == os.getpid()
    assert ProcessIdentity.from_json(json.loads(json.dumps(here.to_json()))) == here
    assert ProcessIdentity(here.pid, here.process_started - 60, here.boot_id, here.host).process() is None
    assert ProcessIdentity(here.pid, here.process_started, "other", here.host).process() is None


def test_a_clock_that_jumps_changes_no_identity(monkeypatch):
    """psutil reckons a start from the time of the boot, which moves with the clock."""
    here = ProcessIdentity.here()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 1_000_000.0, raising=False)
    monkeypatch.setattr("psutil._pslinux.BOOT_TIME", 1_000_000.0, raising=False)
    monkeypatch.setattr(time, "time", lambda: 2_000_000.0)
    assert psutil.Process().create_time() < 2_000_000
    assert here.process() is not None
    assert ProcessIdentity.here() == here


def test_a_process_that_ended_and_waits_to_be_fetched_lives_no_more(run):
    with holding(run) as pid:
        owner = lock_owner(run)
        assert owner.process() is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        assert owner.process() is None
        assert runner_alive(run) is False
